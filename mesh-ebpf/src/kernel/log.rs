//! What the programs of a development build (feature `kernel-log`) say of each call that is a Service's: the hook, what
//! was asked for, and the verdict. No other build has any of it: a line costs more than the rest of the program.

use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::{debug, info};
use mesh_common::{Address, Port};
use mesh_ebpf::Verdict;

/// One line; none of what passes.
#[inline(always)]
pub(crate) fn verdict(
    context: &SockAddrContext,
    hook: &str,
    (address, port): (Address, Port),
    verdict: Verdict,
) {
    let (address, port) = (address.to_ip(), port.get());
    match verdict {
        Verdict::Pass => {}
        Verdict::Forward => debug!(
            context,
            "{} to {:i} port {}: forwarded", hook, address, port
        ),
        Verdict::Refuse(reason) => info!(
            context,
            "{} to {:i} port {}: refused, {}",
            hook,
            address,
            port,
            reason.name()
        ),
    }
}
