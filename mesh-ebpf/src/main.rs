//! The eBPF object: hooks of a few lines over the library, the maps and the kernel side of the library's traits.
#![no_std]
#![no_main]

mod kernel;

use aya_ebpf::{
    helpers::bpf_get_socket_cookie,
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use kernel::{KernelEnv, SockAddr, protocol, verdict_code};

/// Lets the call go on, as every program on the way there that does not refuse.
const ALLOW: i32 = 1;

macro_rules! verdict_hook {
    ($name:ident, $attach:ident, $family:ident, $function:path) => {
        #[cgroup_sock_addr($attach)]
        fn $name(context: SockAddrContext) -> i32 {
            let mut socket = SockAddr::$family(&context);
            #[cfg(feature = "kernel-log")]
            let asked = mesh_ebpf::Socket::peer(&socket);
            let verdict = $function(&KernelEnv, &mut socket);
            #[cfg(feature = "kernel-log")]
            kernel::log::verdict(&context, stringify!($name), asked, verdict);
            verdict_code(verdict)
        }
    };
}

macro_rules! reply_hook {
    ($name:ident, $attach:ident, $family:ident, $function:path) => {
        #[cgroup_sock_addr($attach)]
        fn $name(context: SockAddrContext) -> i32 {
            $function(&KernelEnv, &mut SockAddr::$family(&context));
            ALLOW
        }
    };
}

verdict_hook!(connect4, connect4, v4, mesh_ebpf::connect);
verdict_hook!(connect6, connect6, v6, mesh_ebpf::connect);
verdict_hook!(sendmsg4, sendmsg4, v4, mesh_ebpf::sendmsg);
verdict_hook!(sendmsg6, sendmsg6, v6, mesh_ebpf::sendmsg);
reply_hook!(recvmsg4, recvmsg4, v4, mesh_ebpf::recvmsg);
reply_hook!(recvmsg6, recvmsg6, v6, mesh_ebpf::recvmsg);
reply_hook!(getpeername4, getpeername4, v4, mesh_ebpf::getpeername);
reply_hook!(getpeername6, getpeername6, v6, mesh_ebpf::getpeername);

/// Attached as BPF_CGROUP_INET_SOCK_RELEASE.
#[cgroup_sock(sock_release)]
fn sock_release(context: SockContext) -> i32 {
    // SAFETY: the context is the program's own for its whole run, and `protocol` may be read in this hook.
    let (cookie, number) = unsafe {
        (
            bpf_get_socket_cookie(context.sock.cast()),
            (*context.sock).protocol,
        )
    };
    mesh_ebpf::release(&KernelEnv, cookie, protocol(number));
    ALLOW
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that the kernel gives to GPL programs alone are needed.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
