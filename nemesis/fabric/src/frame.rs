//! What the switch needs to know of a frame: who it is for.
//!
//! Pure. A frame here is what a packet socket with `PACKET_VNET_HDR` gives and takes: a virtio
//! network header (which says what is left to do in segmentation and checksums, and is passed on
//! untouched), then the Ethernet frame.

/// Bytes of the virtio network header before each Ethernet frame (`struct virtio_net_hdr`).
pub(crate) const OFFLOAD_HEADER: usize = 10;

/// Bytes of an Ethernet header.
const ETHERNET_HEADER: usize = 14;

/// The most bytes one frame can have: the largest offloaded IP packet and all headers.
pub(crate) const FRAME_LIMIT: usize = OFFLOAD_HEADER + ETHERNET_HEADER + (1 << 16);

/// Which ports a frame goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The port that owns the destination address.
    Port(usize),
    /// All ports but the one it came from: broadcast, multicast, or an address nobody owns.
    Flood,
    /// Nowhere: it is for the port it came from, or too short to be a frame.
    Nowhere,
}

/// Who owns which Ethernet address. Fixed for the life of the fabric: nothing is learned, so no
/// host can take over another's frames.
#[derive(Debug)]
pub(crate) struct Stations {
    /// Sorted by address.
    owners: Vec<([u8; 6], usize)>,
}

impl Stations {
    /// The owners of these addresses, the first being port 0, or an address that occurs twice.
    pub(crate) fn new(addresses: impl IntoIterator<Item = [u8; 6]>) -> Result<Stations, [u8; 6]> {
        let mut owners: Vec<_> = addresses.into_iter().enumerate().map(|(port, mac)| (mac, port)).collect();
        owners.sort_unstable();
        match owners.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0),
            None => Ok(Stations { owners }),
        }
    }

    /// Where a frame that came in at port `from` goes.
    pub(crate) fn destination(&self, from: usize, frame: &[u8]) -> Destination {
        if frame.len() < OFFLOAD_HEADER + ETHERNET_HEADER {
            return Destination::Nowhere;
        }
        let address = &frame[OFFLOAD_HEADER..OFFLOAD_HEADER + 6];
        let is_group = address[0] & 1 == 1;
        if is_group {
            return Destination::Flood;
        }
        match self.owners.binary_search_by(|(mac, _)| mac.as_slice().cmp(address)) {
            Ok(place) if self.owners[place].1 == from => Destination::Nowhere,
            Ok(place) => Destination::Port(self.owners[place].1),
            Err(_) => Destination::Flood,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame_to(mac: [u8; 6]) -> Vec<u8> {
        let mut frame = vec![0; OFFLOAD_HEADER + ETHERNET_HEADER];
        frame[OFFLOAD_HEADER..OFFLOAD_HEADER + 6].copy_from_slice(&mac);
        frame
    }

    #[test]
    fn frames_go_to_the_owner_of_their_address() {
        let stations = Stations::new([A, B]).unwrap();
        assert_eq!(stations.destination(0, &frame_to(B)), Destination::Port(1));
        assert_eq!(stations.destination(1, &frame_to(A)), Destination::Port(0));
        assert_eq!(stations.destination(0, &frame_to(A)), Destination::Nowhere);
    }

    #[test]
    fn group_and_unknown_addresses_are_flooded() {
        let stations = Stations::new([A, B]).unwrap();
        assert_eq!(stations.destination(0, &frame_to([0xff; 6])), Destination::Flood);
        assert_eq!(stations.destination(0, &frame_to([1, 0, 0x5e, 0, 0, 1])), Destination::Flood);
        assert_eq!(stations.destination(0, &frame_to([2, 0, 0, 0, 0, 7])), Destination::Flood);
    }

    #[test]
    fn a_stump_goes_nowhere() {
        let stations = Stations::new([A, B]).unwrap();
        assert_eq!(stations.destination(0, &frame_to(B)[..OFFLOAD_HEADER + 13]), Destination::Nowhere);
        assert_eq!(stations.destination(0, &[]), Destination::Nowhere);
    }

    #[test]
    fn an_address_has_one_owner() {
        assert_eq!(Stations::new([A, B, A]).unwrap_err(), A);
    }
}
