# The warnings that the project's own code is free of, with GCC and clang.

option(DF_WERROR "Treat compiler warnings as errors (the project's own checks do)" OFF)

function(df_set_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow)
  if(DF_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
