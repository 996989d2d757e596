//! TCP connections over the links of a fault, to see them reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use duress_deploy::Local;
use duress_history::Host;

use super::Link;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long data, or a reset, may take to arrive.
const ANSWER: Duration = Duration::from_millis(500);

/// A connection over a link: its ends at the sender and at the receiver.
pub(super) struct Connection {
    link: Link,
    near: TcpStream,
    far: TcpStream,
}

/// Makes a connection over a link.
///
/// # Errors
/// In words, why not.
pub(super) fn connect(local: &Local, link: &Link) -> Result<Connection, String> {
    let (from, to): (&Host, &Host) = (&link.0, &link.1);
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("link {from} -> {to}: {what}: {why}");
    let address = local.address(to).ok_or_else(|| failed("no address", to))?;
    let listener = local
        .in_host(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .map_err(|e| failed("no listener", &e))?
        .map_err(|e| failed("no listener", &e))?;
    let port = listener.local_addr().map_err(|e| failed("no listener", &e))?.port();
    let target = SocketAddr::from((address, port));
    let near = local
        .in_host(from, || TcpStream::connect_timeout(&target, PATIENCE))
        .map_err(|e| failed("no connection", &e))?
        .map_err(|e| failed("no connection", &e))?;
    // The connection is in the listener's queue by now.
    let (far, _) = listener.accept().map_err(|e| failed("no connection", &e))?;
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(ANSWER))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER)))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|e| failed("no time limits", &e))?;
    }
    Ok(Connection { link: link.clone(), near, far })
}

impl Connection {
    /// Whether both ends are reset once something is sent; in words, how they are found, if not.
    pub(super) fn see_reset(mut self) -> Result<(), String> {
        let (from, to) = &self.link;
        // If it has been reset already, the reading says so too.
        let _ = self.near.write_all(b"is anybody there?");
        for (host, stream) in [(from, &mut self.near), (to, &mut self.far)] {
            let found = match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) => error.to_string(),
                Ok(0) => "it is closed".to_owned(),
                Ok(_) => "it carries data".to_owned(),
            };
            return Err(format!("the connection {from} -> {to} is not reset at {host}: {found}"));
        }
        Ok(())
    }

    /// Whether it carries data; in words, what happens, if not.
    pub(super) fn carry(mut self) -> Result<(), String> {
        let (from, to) = &self.link;
        let mut buffer = [0; 5];
        let done = self.near.write_all(b"hello").and_then(|()| self.far.read_exact(&mut buffer));
        done.map_err(|error| format!("the connection {from} -> {to} carries nothing: {error}"))
    }
}
