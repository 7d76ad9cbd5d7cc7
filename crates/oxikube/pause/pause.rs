//! The pause container's only program: holds a pod's namespaces open, reaps its orphans, ends on SIGTERM or SIGINT. A static ELF without libc.
#![no_std]
#![no_main]

use core::arch::asm;

const SIGINT: i64 = 2;
const SIGTERM: i64 = 15;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT: usize = 60;
}
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT: usize = 93;
}

/// SAFETY: the caller passes what the kernel expects for that call; every call here only reads `set` or nothing.
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> i64 {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as i64 => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, lateout("rcx") _, lateout("r11") _)
    };
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as i64 => result, in("x1") b, in("x2") c, in("x3") d)
    };
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let set: u64 = !0;
    let set_at = &raw const set as usize;
    // SAFETY: `set` lives as long as this function, which never returns; sizes are the kernel's 8 bytes.
    unsafe {
        syscall(nr::RT_SIGPROCMASK, SIG_BLOCK, set_at, 0, 8);
        loop {
            let signal = syscall(nr::RT_SIGTIMEDWAIT, set_at, 0, 0, 8);
            if signal == SIGINT || signal == SIGTERM {
                syscall(nr::EXIT, 0, 0, 0, 0);
            }
            while syscall(nr::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
