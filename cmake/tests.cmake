# Tests of the C++ parts that Python cannot reach; ctest runs them. They use no framework.

enable_testing()

# Of the thread pool alone, so that -DCMAKE_CXX_FLAGS=-fsanitize=thread sees nothing else.
# What uses cpp/core or cpp/cpu links densefield_core instead.
function(df_add_thread_test name)
  add_executable(${name} tests/cpp/${name}.cpp cpp/cpu/threads.cpp)
  target_include_directories(${name} PRIVATE cpp/include)
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE Threads::Threads)
  df_set_warnings(${name})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

df_add_thread_test(test_threads)
# The thread sanitizer cannot start threads in the child of a threaded process.
if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
  df_add_thread_test(test_threads_fork)
endif()

function(df_add_core_test name)
  add_executable(${name} tests/cpp/${name}.cpp)
  target_include_directories(${name} PRIVATE cpp)
  target_link_libraries(${name} PRIVATE densefield_core)
  df_set_warnings(${name})
  add_test(NAME ${name} COMMAND ${name})
endfunction()

df_add_core_test(test_label_pruning)
df_add_core_test(test_lattice_tables)
df_add_core_test(test_update_allocations)
