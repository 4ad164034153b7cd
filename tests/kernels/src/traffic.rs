//! Traffic through a Service whose backends are sockets of this process, on the loopback addresses.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mesh_common::Protocol;

use crate::service::Maps;

/// Nothing here leaves the machine.
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 80;
const SERVICE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
const SERVICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1));

/// A Service and the backend behind each of its protocols.
struct Service {
    at: SocketAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

/// All checks, each with its name.
pub(crate) fn all(maps: &Maps<'_>) -> Vec<(String, Result<()>)> {
    let mut results = Vec::new();
    let families = [
        ("IPv4", SERVICE_V4, IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
        ("IPv6", SERVICE_V6, IpAddr::V6(Ipv6Addr::LOCALHOST), 3),
    ];
    for (family, address, loopback, number) in families {
        match Service::start(maps, address, loopback, number) {
            Ok(service) => results.extend(
                service
                    .checks()
                    .into_iter()
                    .map(|(what, result)| (format!("{what} over {family}"), result)),
            ),
            Err(error) => results.push((format!("a Service over {family}"), Err(error))),
        }
    }
    results
}

impl Service {
    fn start(maps: &Maps<'_>, address: IpAddr, loopback: IpAddr, number: u32) -> Result<Self> {
        let service = Self {
            at: SocketAddr::new(address, PORT),
            tcp: TcpListener::bind((loopback, 0))?,
            udp: UdpSocket::bind((loopback, 0))?,
        };
        service.udp.set_read_timeout(Some(PATIENCE))?;
        maps.serve(number, service.at, Protocol::Tcp, service.tcp.local_addr()?)?;
        maps.serve(
            number + 1,
            service.at,
            Protocol::Udp,
            service.udp.local_addr()?,
        )?;
        maps.refuse_the_rest(address)?;
        Ok(service)
    }

    fn checks(&self) -> Vec<(&'static str, Result<()>)> {
        let mut checks = vec![
            ("TCP", self.tcp_works(self.at)),
            ("connected UDP", self.connected_udp_works()),
            ("unconnected UDP", self.unconnected_udp_works()),
            (
                "a port that the Service lacks",
                self.other_port_is_refused(),
            ),
        ];
        if let IpAddr::V4(address) = self.at.ip() {
            let mapped = SocketAddr::new(IpAddr::V6(address.to_ipv6_mapped()), PORT);
            checks.push(("TCP of an IPv6 socket", self.tcp_works(mapped)));
        }
        checks
    }

    fn tcp_works(&self, at: SocketAddr) -> Result<()> {
        let mut client = TcpStream::connect_timeout(&at, PATIENCE).context("connect")?;
        let peer = client.peer_addr()?;
        ensure!(
            peer == at,
            "getpeername shows {peer}, and the program asked for {at}"
        );
        let (mut server, _) = self.tcp.accept()?;
        server.write_all(b"hello")?;
        drop(server);
        client.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        ensure!(text == "hello", "the backend said `{text}`");
        Ok(())
    }

    fn connected_udp_works(&self) -> Result<()> {
        let client = self.udp_client()?;
        client.connect(self.at).context("connect")?;
        client.send(b"ping").context("send")?;
        self.answer()?;
        let mut buffer = [0; 16];
        let length = client.recv(&mut buffer).context("no reply")?;
        ensure!(
            buffer.starts_with(b"pong") && length == 4,
            "the reply is another's"
        );
        let peer = client.peer_addr()?;
        ensure!(
            peer == self.at,
            "getpeername shows {peer}, and the program asked for {}",
            self.at
        );
        Ok(())
    }

    fn unconnected_udp_works(&self) -> Result<()> {
        let client = self.udp_client()?;
        client.send_to(b"ping", self.at).context("send")?;
        self.answer()?;
        let (_, sender) = client.recv_from(&mut [0; 16]).context("no reply")?;
        ensure!(
            sender == self.at,
            "the reply seems to come from {sender}, and the program asked {}",
            self.at
        );
        Ok(())
    }

    fn other_port_is_refused(&self) -> Result<()> {
        let other = SocketAddr::new(self.at.ip(), PORT + 1);
        match TcpStream::connect_timeout(&other, PATIENCE) {
            Ok(_) => bail!("it connects"),
            // EPERM is all that kernels before 6.1 can say.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error).context("it should be refused at once"),
        }
    }

    fn udp_client(&self) -> Result<UdpSocket> {
        let any: IpAddr = if self.at.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let client = UdpSocket::bind((any, 0))?;
        client.set_read_timeout(Some(PATIENCE))?;
        Ok(client)
    }

    fn answer(&self) -> Result<()> {
        let (_, client) = self
            .udp
            .recv_from(&mut [0; 16])
            .context("the backend received nothing")?;
        self.udp.send_to(b"pong", client)?;
        Ok(())
    }
}
