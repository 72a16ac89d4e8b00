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

add_executable(test_lattice_tables tests/cpp/test_lattice_tables.cpp)
target_include_directories(test_lattice_tables PRIVATE cpp)
target_link_libraries(test_lattice_tables PRIVATE densefield_core)
df_set_warnings(test_lattice_tables)
add_test(NAME test_lattice_tables COMMAND test_lattice_tables)
