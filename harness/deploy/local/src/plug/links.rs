//! Links as the fabric's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use duress_backend::Error;
use duress_backend::links::{Connection, Counters, Link, Links, Probed, Rule, Shots, Volley};

use super::Here;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long data, or a reset, may take to arrive.
const ANSWER: Duration = Duration::from_millis(500);

impl Here {
    fn link(&self, (from, to): &Link) -> Result<duress_fabric::Link, Error> {
        let links = self.0.links();
        match (links.port(from), links.port(to)) {
            (Some(from), Some(to)) if from != to => Ok(duress_fabric::Link { from, to }),
            _ => Err(Error::failed(format!("there is no link {from} -> {to}"))),
        }
    }
}

impl Links for Here {
    fn set(&self, rules: &[(Link, Rule)]) -> Result<(), Error> {
        let rules = rules.iter().map(|(link, rule)| Ok((self.link(link)?, *rule))).collect::<Result<Vec<_>, Error>>();
        self.0.links().set_many(&rules?);
        Ok(())
    }

    fn look(&self, links: &[Link]) -> Result<Vec<(Rule, Counters)>, Error> {
        let fabric = self.0.links();
        let look = |link| {
            let duress_fabric::Link { from, to } = self.link(link)?;
            Ok((fabric.rule(from, to), fabric.counters(from, to)))
        };
        links.iter().map(look).collect()
    }

    fn probe(&self, wait: Duration) -> Result<Vec<Probed>, Error> {
        let matrix = self.0.prober().matrix(wait);
        let host = |place: usize| matrix.hosts()[place].as_str().into();
        let probed = |(from, to)| Probed { link: (host(from), host(to)), latency: matrix.latency(from, to) };
        Ok(matrix.links().map(probed).collect())
    }

    fn volley(&self, links: &[Link], shots: &Shots) -> Result<Vec<Volley>, Error> {
        let places = |link| self.link(link).map(|link| (link.from.index(), link.to.index()));
        let places = links.iter().map(places).collect::<Result<Vec<_>, _>>()?;
        Ok(self.0.prober().volley(&places, shots))
    }

    fn connect(&self, link: &Link) -> Result<Box<dyn Connection>, Error> {
        let (from, to) = link;
        let failed =
            |what: &str, why: &dyn std::fmt::Display| Error::failed(format!("link {from} -> {to}: {what}: {why}"));
        let address = self.0.address(to).ok_or_else(|| failed("no address", to))?;
        let listener = self
            .0
            .in_host(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
            .map_err(|e| failed("no listener", &e))?
            .map_err(|e| failed("no listener", &e))?;
        let port = listener.local_addr().map_err(|e| failed("no listener", &e))?.port();
        let target = SocketAddr::from((address, port));
        let near = self
            .0
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
        Ok(Box::new(Made { link: link.clone(), near, far }))
    }
}

/// A connection over a link: its ends at the sender and at the receiver.
struct Made {
    link: Link,
    near: TcpStream,
    far: TcpStream,
}

impl Connection for Made {
    fn see_reset(mut self: Box<Self>) -> Result<(), Error> {
        let Made { link: (from, to), near, far } = &mut *self;
        // If it has been reset already, the reading says so too.
        let _ = near.write_all(b"is anybody there?");
        for (host, stream) in [(&*from, near), (&*to, far)] {
            let found = match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) => error.to_string(),
                Ok(0) => "it is closed".to_owned(),
                Ok(_) => "it carries data".to_owned(),
            };
            return Err(Error::failed(format!("the connection {from} -> {to} is not reset at {host}: {found}")));
        }
        Ok(())
    }

    fn carry(mut self: Box<Self>) -> Result<(), Error> {
        let Made { link: (from, to), near, far } = &mut *self;
        let mut buffer = [0; 5];
        let done = near.write_all(b"hello").and_then(|()| far.read_exact(&mut buffer));
        done.map_err(|error| Error::failed(format!("the connection {from} -> {to} carries nothing: {error}")))
    }
}
