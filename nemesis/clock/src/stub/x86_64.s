// Replacements of the vDSO's clock functions on x86-64, System V calling convention. They are
// copied into another process: position-independent, no symbols but these, and everything they
// read lies in the page that follows (`Data` in stub.rs; offsets must agree with it).
//
// Each asks the kernel for the true time, counts the read, and answers with
//     value + d + (d * rate >> 32) [+ other in odd periods],   d = true - base.
    .pushsection .text.duress_stub, "ax", @progbits
    .balign 16
    .globl duress_stub_start
    .hidden duress_stub_start
duress_stub_start:
    .ascii "duressSK"

    // int clock_gettime(clockid_t edi, struct timespec *rsi)
    .balign 16
    .globl duress_stub_clock_gettime
    .hidden duress_stub_clock_gettime
duress_stub_clock_gettime:
    mov eax, 228
    syscall
    test eax, eax
    jnz 2f
    cmp edi, 7
    ja 2f
    mov ecx, edi
    lea rdx, [rip + 7f]
    movzx ecx, byte ptr [rdx + rcx]
    cmp ecx, 3
    jae 2f
    imul rax, qword ptr [rsi], 1000000000
    add rax, qword ptr [rsi + 8]
    call 8f
    mov r9d, 1000000000
    cqo
    idiv r9
    mov qword ptr [rsi], rax
    mov qword ptr [rsi + 8], rdx
    xor eax, eax
2:  ret
    // Which of the three skewed clocks a clock id is; 255 for none.
7:  .byte 0, 1, 255, 255, 255, 0, 1, 2

    // int gettimeofday(struct timeval *rdi, struct timezone *rsi)
    .balign 16
    .globl duress_stub_gettimeofday
    .hidden duress_stub_gettimeofday
duress_stub_gettimeofday:
    mov eax, 96
    syscall
    test eax, eax
    jnz 2f
    test rdi, rdi
    jz 2f
    imul rax, qword ptr [rdi], 1000000000
    imul rdx, qword ptr [rdi + 8], 1000
    add rax, rdx
    xor ecx, ecx
    call 8f
    mov r9d, 1000000000
    cqo
    idiv r9
    mov qword ptr [rdi], rax
    mov rax, rdx
    mov r9d, 1000
    cqo
    idiv r9
    mov qword ptr [rdi + 8], rax
    xor eax, eax
2:  ret

    // time_t time(time_t *rdi)
    .balign 16
    .globl duress_stub_time
    .hidden duress_stub_time
duress_stub_time:
    push rdi
    sub rsp, 16
    xor edi, edi
    mov rsi, rsp
    mov eax, 228
    syscall
    imul rax, qword ptr [rsp], 1000000000
    add rax, qword ptr [rsp + 8]
    xor ecx, ecx
    call 8f
    mov r9d, 1000000000
    cqo
    idiv r9
    add rsp, 16
    pop rdi
    test rdi, rdi
    jz 2f
    mov qword ptr [rdi], rax
2:  ret

    // rax: true time in ns, ecx: which clock -> rax: the time to tell.
    // Changes rcx, rdx, r8 to r11.
    .balign 16
8:  lea r8, [rip + duress_stub_start + 4096]
    lock inc qword ptr [r8 + rcx * 8 + 32]
    add r8, qword ptr [r8 + 24]
    shl ecx, 6
    add r8, rcx
    cmp qword ptr [r8 + 40], 0
    je 3f
    sub rax, qword ptr [r8]
    jns 1f
    // This setting is younger than the time that was asked for: no clock that must ascend may
    // tell less than what was told when it began.
    test ecx, ecx
    jz 1f
    xor eax, eax
1:  mov r9, rax
    imul qword ptr [r8 + 16]
    shrd rax, rdx, 32
    add rax, r9
    add rax, qword ptr [r8 + 8]
    mov r10, qword ptr [r8 + 24]
    test r10, r10
    jz 2f
    mov r11, rax
    mov rax, r9
    cqo
    idiv r10
    mov rcx, rax
    mov rax, r11
    test cl, 1
    jz 2f
    add rax, qword ptr [r8 + 32]
2:  test rax, rax
    jns 3f
    xor eax, eax
3:  ret

    .globl duress_stub_end
    .hidden duress_stub_end
duress_stub_end:
    .popsection
