//! The eBPF object: hooks of a few lines over the library, the maps and the kernel side of the library's traits.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod kernel;

use aya_ebpf::{
    helpers::bpf_get_socket_cookie,
    macros::{cgroup_sock, cgroup_sock_addr, classifier, sock_ops},
    programs::{SockAddrContext, SockContext, SockOpsContext, TcContext},
};
use kernel::{KernelEnv, SockAddr, SockOps, begin, go_on, protocol, verdict_code};
use mesh_common::Direction;
use mesh_ebpf::{LinkHeader, PacketHook, PacketStage};

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

/// Attached as BPF_CGROUP_SOCK_OPS. What it returns is asked for by no event that it could change.
#[sock_ops]
fn established(context: SockOpsContext) -> u32 {
    if let Some(connection) = SockOps::established(&context) {
        mesh_ebpf::established(&KernelEnv, &connection);
    }
    ALLOW.cast_unsigned()
}

macro_rules! packet_hook {
    ($name:ident, $hook:ident, $link:ident) => {
        #[classifier]
        fn $name(context: TcContext) -> i32 {
            begin(&context, PacketHook::$hook, LinkHeader::$link)
        }
    };
}

packet_hook!(from_pod, FromPod, Ethernet);
packet_hook!(to_pod, ToPod, Ethernet);
packet_hook!(from_device, FromDevice, Ethernet);
packet_hook!(to_device, ToDevice, Ethernet);
packet_hook!(from_l3_device, FromDevice, None);
packet_hook!(to_l3_device, ToDevice, None);

macro_rules! packet_stage {
    ($name:ident, $direction:ident, $stage:ident) => {
        #[classifier]
        #[inline(always)]
        fn $name(context: TcContext) -> i32 {
            go_on(&context, Direction::$direction, PacketStage::$stage)
        }
    };
}

packet_stage!(ingress_parse, Ingress, Parse);
packet_stage!(ingress_open, Ingress, Open);
packet_stage!(ingress_choose, Ingress, Choose);
packet_stage!(ingress_enter, Ingress, Enter);
packet_stage!(ingress_confirm, Ingress, Confirm);
packet_stage!(ingress_icmp, Ingress, Icmp);
packet_stage!(ingress_refuse, Ingress, Refuse);
packet_stage!(egress_parse, Egress, Parse);
packet_stage!(egress_source, Egress, Source);
packet_stage!(egress_icmp, Egress, Icmp);

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that the kernel gives to GPL programs alone are needed.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
