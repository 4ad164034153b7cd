//! Whether a kube-proxy runs on this node: by its metrics server, which says in which mode it is, or by its process in the
//! node's network namespace. A container sees no processes but its own, and shares the node's ports.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// Where its metrics server is unless it was told otherwise.
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 10249);
/// Nobody who answers takes longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What it answers; the agent says `ebpf`.
const MODES: [&str; 3] = ["iptables", "nftables", "ipvs"];

/// By what it was recognised.
#[must_use]
pub fn running() -> Option<String> {
    let mode = mode(METRICS.into()).ok();
    if let Some(mode) = mode.filter(|mode| MODES.contains(&mode.as_str())) {
        let (_, port) = METRICS;
        return Some(format!("mode {mode}, as port {port} says"));
    }
    process().map(|pid| format!("pid {pid}"))
}

fn mode(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Ok(body.unwrap_or_default().trim().to_owned())
}

/// The process called so that is in this network namespace.
fn process() -> Option<u32> {
    let netns = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = netns("self")?;
    let names = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_kube_proxy(&line) && netns(&pid.to_string()).is_some_and(|it| it == own)
    });
    found.next()
}

/// Alone, or as a verb of a program that is several in one.
fn is_kube_proxy(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0).take(2);
    words.any(|word| {
        let word = String::from_utf8_lossy(word).into_owned();
        Path::new(&word)
            .file_name()
            .is_some_and(|name| name == "kube-proxy")
    })
}

#[cfg(test)]
mod tests {
    use super::is_kube_proxy;

    #[test]
    fn a_process_is_known_by_its_name() {
        assert!(is_kube_proxy(b"/usr/local/bin/kube-proxy\0--config=/x\0"));
        assert!(is_kube_proxy(b"/hyperkube\0kube-proxy\0--v=2\0"));
        assert!(!is_kube_proxy(b"mesh-agent\0cleanup\0--kube-proxy-rules\0"));
        assert!(!is_kube_proxy(b""));
    }
}
