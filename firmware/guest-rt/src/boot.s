# Everything that runs at CPL 0, and the way to CPL 3. Only plain instructions: some hosts emulate them one by one.
#
# Start (PVH, 32-bit, paging off, ebx = hvm_start_info) -> first output -> long mode -> iretq to CPL 3.
# Later, CPL 0 is entered only by interrupts, by exceptions, and by the two instructions the rest of the
# guest uses on purpose: hlt (#GP: wait for an interrupt) and ud2 (#UD: a service, number in rax).
#
# The page that holds a CPU's ring-0 stack starts with its data: +0 u32 wake flag.

.set CODE0, 0x10
.set DATA0, 0x18
.set DATA3, 0x2b
.set CODE3, 0x33
.set TSS, 0x40
.set COM1, 0x3f8
.set APIC_EOI, 0xfee000b0
.set BOOT_LINE_BYTES, 12
.set SERVICE, 0x41534800

# ---------------------------------------------------------------- PVH note
.section .note.pvh, "a", @note
.balign 4
    .long 4
    .long 8
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .balign 4
    .quad guest_start32

.section .ring0, "awx", @progbits
ring0_base:

# ---------------------------------------------------------------- entry
.code32
.global guest_start32
guest_start32:
    cld
    mov edx, COM1
    mov esi, offset boot_line
    mov ecx, BOOT_LINE_BYTES
    rep outsb
    mov eax, 0x620                      # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset guest_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                 # EFER
    rdmsr
    or eax, 0x901                       # NXE, LME, SCE
    wrmsr
    mov eax, 0x80050033                 # PG AM WP NE ET MP PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                          # far jump
    .long long_start
    .word CODE0

.code64
long_start:
    mov eax, DATA0
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea rsp, [guest_cpu0 + 4096]
    mov eax, offset boot_tss            # the descriptor holds the address in three pieces
    mov word ptr [boot_gdt + TSS + 2], ax
    shr eax, 16
    mov byte ptr [boot_gdt + TSS + 4], al
    mov byte ptr [boot_gdt + TSS + 7], ah
    mov eax, TSS
    ltr ax
    lidt [guest_idt_pointer]
    mov al, 0xff                        # no interrupts from the legacy PICs
    out 0x21, al
    out 0xa1, al
    push DATA3
    lea rax, [guest_stack_top - 8]      # aligned as after a call
    push rax
    push 0x202
    push CODE3
    lea rax, [ring3_start]
    push rax
    mov edi, ebx
    xor ebp, ebp
    iretq

# The first code at CPL 3. After a reset memory holds what the last run left there.
ring3_start:
    mov edx, edi
    lea rdi, [__guest_bss_start]
    lea rcx, [__guest_image_end]
    sub rcx, rdi
    xor eax, eax
    rep stosb
    mov edi, edx
    jmp guest_start64

# ---------------------------------------------------------------- interrupts
# All device interrupts go to CPU 0 and mean the same: look again.
irq_device:
    push rax
    mov dword ptr [guest_cpu0], 1
    mov eax, APIC_EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

# The timer has fired: it no longer runs.
irq_timer:
    push rax
    mov qword ptr [guest_timer_deadline], 0
    mov dword ptr [guest_cpu0], 1
    mov eax, APIC_EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

# The console has input.
irq_console:
    push rax
    mov dword ptr [guest_console_input], 1
    mov dword ptr [guest_cpu0], 1
    mov eax, APIC_EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

# To whichever CPU: look again.
irq_wake:
    push rax
    mov rax, rsp
    and rax, -4096
    mov dword ptr [rax], 1
    mov eax, APIC_EOI
    mov dword ptr [rax], 0
    pop rax
    iretq

# The ACPI system control interrupt: level-triggered, so its cause is cleared here.
irq_sci:
    push rax
    push rdx
    mov edx, dword ptr [guest_sci_port]
    xor eax, eax
    in ax, dx
    out dx, ax
    or dword ptr [guest_sci_status], eax
    mov dword ptr [guest_cpu0], 1
    mov eax, APIC_EOI
    mov dword ptr [rax], 0
    pop rdx
    pop rax
    iretq

irq_spurious:
    iretq

# ---------------------------------------------------------------- hlt
# #GP. From CPL 3 at a hlt: sleep unless something happened since the wake flag was cleared. IF is 0 here
# and sti takes effect after hlt has begun, so no wake-up is lost.
trap_gp:
    push rax
    test byte ptr [rsp + 24], 3
    jz 1f
    mov rax, [rsp + 16]
    cmp byte ptr [rax], 0xf4
    jne 1f
    inc qword ptr [rsp + 16]
    mov rax, rsp
    and rax, -4096
    cmp dword ptr [rax], 0
    jne 2f
    sti
    hlt
2:  pop rax
    add rsp, 8
    iretq
1:  pop rax
    push 13
    jmp report

# ---------------------------------------------------------------- ud2
# #UD. From CPL 3 with rax = SERVICE + n: rdi, rsi, rdx are arguments; cpu.rs declares what each clobbers.
trap_ud:
    test byte ptr [rsp + 8], 3
    jz 1f
    cmp rax, SERVICE
    je service_cpuid
    cmp rax, SERVICE + 1
    je service_wrmsr
    cmp rax, SERVICE + 2
    je service_halt
    cmp rax, SERVICE + 3
    je service_triple_fault
    cmp rax, SERVICE + 4
    je service_flush_tlb
    cmp rax, SERVICE + 5
    je service_write
1:  push 0
    push 6
    jmp report

service_cpuid:                          # edi leaf, esi subleaf; rdx -> 4 u32
    mov r8, rdx
    mov eax, edi
    mov ecx, esi
    cpuid
    mov dword ptr [r8], eax
    mov dword ptr [r8 + 4], ebx
    mov dword ptr [r8 + 8], ecx
    mov dword ptr [r8 + 12], edx
service_done:
    add qword ptr [rsp], 2
    iretq
service_wrmsr:                          # edi register, rsi value
    mov ecx, edi
    mov rax, rsi
    mov rdx, rsi
    shr rdx, 32
    wrmsr
    jmp service_done
service_halt:
    cli
    hlt
    jmp service_halt
service_triple_fault:
    lidt [empty_idt_pointer]
    ud2
service_write:                          # rdi port, rsi bytes, rdx count
    mov rcx, rdx
    mov rdx, rdi
    rep outsb
    jmp service_done
service_flush_tlb:
    mov rax, cr3
    mov cr3, rax
    jmp service_done

# ---------------------------------------------------------------- exceptions
.macro trap_plain name, number
\name:
    push 0
    push \number
    jmp report
.endm
.macro trap_code name, number
\name:
    push \number
    jmp report
.endm
trap_plain trap_0, 0
trap_plain trap_1, 1
trap_plain trap_2, 2
trap_plain trap_3, 3
trap_plain trap_4, 4
trap_plain trap_5, 5
trap_plain trap_7, 7
trap_code trap_8, 8
trap_plain trap_9, 9
trap_code trap_10, 10
trap_code trap_11, 11
trap_code trap_12, 12
trap_code trap_14, 14
trap_plain trap_15, 15
trap_plain trap_16, 16
trap_code trap_17, 17
trap_plain trap_18, 18
trap_plain trap_19, 19
trap_plain trap_20, 20
trap_code trap_21, 21
trap_plain trap_other, 31

# [rsp] vector, error code, rip, cs, rflags, rsp, ss. Say it on the console and reset the machine.
report:
    cld
    lea rsi, [text_vector]
    mov rax, [rsp]
    call say_value
    lea rsi, [text_error]
    mov rax, [rsp + 8]
    call say_value
    lea rsi, [text_rip]
    mov rax, [rsp + 16]
    call say_value
    lea rsi, [text_rsp]
    mov rax, [rsp + 40]
    call say_value
    lea rsi, [text_cr2]
    mov rax, cr2
    call say_value
    mov edx, COM1
    mov al, 10
    out dx, al
    mov al, 0xfe                        # the keyboard controller's reset line
    out 0x64, al
    jmp service_halt

# Prints the text at rsi up to a zero byte, then rax as 16 hexadecimal digits.
say_value:
    mov rbx, rax
    mov edx, COM1
1:  mov al, byte ptr [rsi]
    inc rsi
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  mov ecx, 16
3:  rol rbx, 4
    mov eax, ebx
    and eax, 15
    mov al, byte ptr [hex_digits + rax]
    out dx, al
    dec ecx
    jnz 3b
    ret

# ---------------------------------------------------------------- another CPU's start
# Copied below 1 MiB; the GDT's address is filled in for each CPU. Real mode, cs = page, straight to
# long mode.
.balign 16
.code16
.global guest_ap_start
guest_ap_start:
    jmp 1f
.org guest_ap_start + 8
    .long guest_pml4                    # +8 cr3
    .word 0x4f                          # +12 GDT limit
.org guest_ap_start + 14
    .long 0                             # +14 GDT address, filled in
1:  cli
    mov ax, cs
    mov ds, ax
    mov eax, 0x620
    mov cr4, eax
    mov eax, dword ptr [8]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901
    wrmsr
    .byte 0x66, 0x0f, 0x01, 0x16        # lgdt with a 32-bit base
    .word 12
    mov eax, 0x80050033
    mov cr0, eax
    .byte 0x66, 0xea                    # far jump, 32-bit offset
    .long ap_long
    .word CODE0
.global guest_ap_end
guest_ap_end:

.code64
ap_long:
    mov eax, DATA0
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rbx, [guest_ap_cpu]             # the CPU's page: +8 user stack
    lea rsp, [rbx + 4096]
    mov eax, TSS
    ltr ax
    lidt [guest_idt_pointer]
    push DATA3
    push qword ptr [rbx + 8]
    push 0x202
    push CODE3
    lea rax, [guest_ap_start64]
    push rax
    mov rdi, rbx
    xor ebp, ebp
    iretq

# ---------------------------------------------------------------- constants
boot_line:
    .ascii "guest: boot\n"
hex_digits:
    .ascii "0123456789abcdef"
text_vector:
    .asciz "\nguest: exception vector=0x"
text_error:
    .asciz " error=0x"
text_rip:
    .asciz " rip=0x"
text_rsp:
    .asciz " rsp=0x"
text_cr2:
    .asciz " cr2=0x"

# ---------------------------------------------------------------- tables, ready to use
# guest.ld puts .ring0 at 1 MiB, so a handler's address is 0x100000 + (handler - ring0_base).
.macro gate handler
    .word \handler - ring0_base
    .word CODE0
    .word 0x8e00
    .word 0x10
    .quad 0
.endm
.balign 16
boot_idt:
    gate trap_0
    gate trap_1
    gate trap_2
    gate trap_3
    gate trap_4
    gate trap_5
    gate trap_ud
    gate trap_7
    gate trap_8
    gate trap_9
    gate trap_10
    gate trap_11
    gate trap_12
    gate trap_gp
    gate trap_14
    gate trap_15
    gate trap_16
    gate trap_17
    gate trap_18
    gate trap_19
    gate trap_20
    gate trap_21
    .rept 10
    gate trap_other
    .endr
    gate irq_timer                      # 32
    gate irq_console                    # 33
    .rept 27                            # 34..60
    gate irq_device
    .endr
    gate irq_sci                        # 61
    gate irq_wake                       # 62
    gate irq_spurious                   # 63
guest_idt_pointer:
    .word 64 * 16 - 1
    .quad boot_idt
empty_idt_pointer:
    .word 0
    .quad 0
boot_gdt_pointer:
    .word 0x4f
    .quad boot_gdt

.section .guest_tables, "aw", @progbits
.balign 4096
.global guest_pml4
guest_pml4:
    .quad guest_pdpt + 7
    .fill 511, 8, 0
.global guest_pdpt
guest_pdpt:
    .quad guest_pd + 7
    .quad guest_pd + 4096 + 7
    .quad guest_pd + 8192 + 7
    .quad guest_pd + 12288 + 7
    .fill 508, 8, 0
guest_pd:                               # 4 GiB, identity, in pages of 2 MiB that CPL 3 may use
    .set address, 0
    .rept 3 * 512
    .quad address + 0x87
    .set address, address + 0x200000
    .endr
    .rept 512                           # the MMIO space: uncached
    .quad address + 0x9f
    .set address, address + 0x200000
    .endr
.balign 16
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 0x08 32-bit code
    .quad 0x00af9b000000ffff            # 0x10 CPL 0 code
    .quad 0x00cf93000000ffff            # 0x18 CPL 0 data
    .quad 0x00cffb000000ffff            # 0x20 32-bit user code
    .quad 0x00cff3000000ffff            # 0x28 CPL 3 data
    .quad 0x00affb000000ffff            # 0x30 CPL 3 code
    .quad 0
    .quad 0x0000890000002068            # 0x40 TSS, limit 104 + 8192 bytes of I/O bitmap + 1, less one
    .quad 0
.balign 16
.global boot_tss
boot_tss:
    .long 0
    .quad guest_cpu0 + 4096
    .fill 90, 1, 0
    .word 104                           # CPL 3 may use every port
    .fill 8192, 1, 0
    .byte 0xff

.section .guest_bss, "aw", @nobits
.balign 4096
.global guest_cpu0
guest_cpu0:
    .skip 4096
guest_stack:
    .skip 0x20000
guest_stack_top:
