//! Hands bytes on between a client and the API server: freely, slowly, or not at all for the time being.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::fault::{Fault, Treatment};

/// Between two bytes of a slow server.
const TRICKLE: Duration = Duration::from_secs(1);

type Faults = watch::Receiver<Fault>;

/// Until one side ends, or the connection is to be treated in another way than by handing on.
pub(super) async fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    mut faults: Faults,
) -> io::Result<()> {
    let held = |fault: &Fault| fault.treatment() != Treatment::Held;
    faults.wait_for(held).await.map_err(io::Error::other)?;
    let mut upstream = TcpStream::connect(server).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = upstream.split();
    tokio::select! {
        both = async {
            tokio::try_join!(
                pump(from_client, to_server, faults.clone(), false),
                pump(from_server, to_client, faults.clone(), true),
            )
        } => both.map(drop),
        () = ended(faults.clone()) => Ok(()),
    }
}

/// When bytes are no longer to be handed on.
async fn ended(mut faults: Faults) {
    let over = |fault: &Fault| matches!(fault.treatment(), Treatment::Answer | Treatment::Cut);
    // An error says that the proxy itself ends.
    drop(faults.wait_for(over).await);
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: Faults,
    trickles: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let count = allowed(&mut faults, rest.len(), trickles).await?;
            to.write_all(&rest[..count]).await?;
            rest = &rest[count..];
        }
    }
}

/// Waits until bytes may pass, and says how many of those there are.
async fn allowed(faults: &mut Faults, waiting: usize, trickles: bool) -> io::Result<usize> {
    loop {
        let treatment = faults.borrow_and_update().treatment();
        let slow = trickles && treatment == Treatment::Trickle;
        if !slow && treatment != Treatment::Held {
            return Ok(waiting);
        }
        tokio::select! {
            changed = faults.changed() => changed.map_err(io::Error::other)?,
            () = tokio::time::sleep(TRICKLE), if slow => return Ok(1),
        }
    }
}
