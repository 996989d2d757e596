// Replacements of the vDSO's clock functions on AArch64. As x86_64.s, which explains them; the
// kernel preserves all registers but x0 across a system call.
    .pushsection .text.duress_stub, "ax", @progbits
    .balign 16
    .globl duress_stub_start
    .hidden duress_stub_start
duress_stub_start:
    .ascii "duressSK"

    // int clock_gettime(clockid_t w0, struct timespec *x1)
    .balign 16
    .globl duress_stub_clock_gettime
    .hidden duress_stub_clock_gettime
duress_stub_clock_gettime:
    mov w9, w0
    mov x8, #113
    svc #0
    cbnz x0, 2f
    cmp w9, #7
    b.hi 2f
    adr x10, 7f
    ldrb w9, [x10, w9, uxtw]
    cmp w9, #3
    b.hs 2f
    ldp x2, x3, [x1]
    mov x17, x30
    bl 8f
    mov x30, x17
    stp x2, x3, [x1]
    mov x0, #0
2:  ret
    // Which of the three skewed clocks a clock id is; 255 for none.
7:  .byte 0, 1, 255, 255, 255, 0, 1, 2

    // int gettimeofday(struct timeval *x0, struct timezone *x1)
    .balign 16
    .globl duress_stub_gettimeofday
    .hidden duress_stub_gettimeofday
duress_stub_gettimeofday:
    mov x7, x0
    mov x8, #169
    svc #0
    cbnz x0, 2f
    cbz x7, 2f
    ldp x2, x3, [x7]
    mov x10, #1000
    mul x3, x3, x10
    mov w9, #0
    mov x17, x30
    bl 8f
    mov x30, x17
    mov x10, #1000
    udiv x3, x3, x10
    stp x2, x3, [x7]
    mov x0, #0
2:  ret

    // No time() in this architecture's vDSO.
    .globl duress_stub_time
    .hidden duress_stub_time
duress_stub_time:

    // x2, x3: true time in s and ns, w9: which clock -> x2, x3: the time to tell.
    // Changes x4 to x6, x9 to x16.
    .balign 16
8:  mov x10, #0xca00
    movk x10, #0x3b9a, lsl #16
    madd x2, x2, x10, x3
    adr x11, duress_stub_start + 4096
    add x12, x11, x9, lsl #3
    add x12, x12, #32
1:  ldxr x13, [x12]
    add x13, x13, #1
    stxr w14, x13, [x12]
    cbnz w14, 1b
    ldr x13, [x11, #24]
    add x11, x11, x13
    add x11, x11, x9, lsl #6
    ldr x13, [x11, #40]
    cbz x13, 3f
    ldp x4, x5, [x11]
    ldp x6, x12, [x11, #16]
    subs x2, x2, x4
    b.pl 1f
    cbz w9, 1f
    mov x2, #0
1:
    mul x13, x2, x6
    smulh x14, x2, x6
    extr x13, x14, x13, #32
    add x13, x13, x2
    add x13, x13, x5
    cbz x12, 2f
    sdiv x14, x2, x12
    tbz x14, #0, 2f
    ldr x15, [x11, #32]
    add x13, x13, x15
2:  cmp x13, #0
    csel x2, x13, xzr, ge
3:  udiv x4, x2, x10
    msub x3, x4, x10, x2
    mov x2, x4
    ret

    .globl duress_stub_end
    .hidden duress_stub_end
duress_stub_end:
    .popsection
