# far_wrap_l1(TARGET): links tests/support/l1_wrap.c into a program, and sends its calls of L1 there.
function(far_wrap_l1 target)
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/l1_wrap.c)
    foreach(call reserve_write finish_write abort_write finish_write_and_reserve_read reserve_read
        reserve_read_prefix finish_read delete clear evict retain let_go
        touch session_close)
        target_link_options(${target} PRIVATE -Wl,--wrap=far_l1_${call})
    endforeach()
endfunction()
