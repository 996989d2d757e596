//! The blocks of a capture file (pcapng, draft-ietf-opsawg-pcapng): pure, from values to bytes.
//!
//! One interface for each port, named as its host; one more, `faults`, for changes. Every change is
//! a packet of its own there: its comment says what changed, and so does its payload, as a line of
//! syslog, which is what readers then show as a packet's summary.

use super::Direction;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const LINK_ETHERNET: u16 = 1;
/// `LINKTYPE_WIRESHARK_UPPER_PDU`: tags that name a dissector, then what it is to read.
const LINK_UPPER_PDU: u16 = 252;
const DISSECTOR_NAME: u16 = 12;

const COMMENT: u16 = 1;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const APPLICATION: u16 = 4;

/// Nanoseconds: ten to the power of minus this.
const NANOSECONDS: u8 = 9;

/// The section header and the interfaces.
pub(super) fn start(ports: &[String], snap_length: u32) -> Vec<u8> {
    let mut file = Vec::new();
    block(&mut file, SECTION, |body| {
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // The section's length, which is not known.
        body.extend(u64::MAX.to_le_bytes());
        option(body, APPLICATION, b"duress");
        end_options(body);
    });
    for (name, link) in ports.iter().map(|name| (name.as_str(), LINK_ETHERNET)).chain([("faults", LINK_UPPER_PDU)]) {
        block(&mut file, INTERFACE, |body| {
            body.extend(link.to_le_bytes());
            body.extend([0, 0]);
            body.extend(snap_length.to_le_bytes());
            option(body, INTERFACE_NAME, name.as_bytes());
            option(body, TIME_RESOLUTION, &[NANOSECONDS]);
            end_options(body);
        });
    }
    file
}

/// A frame at interface `port`, of which `bytes` are kept. `at` is in nanoseconds since 1970.
pub(super) fn packet(
    file: &mut Vec<u8>,
    port: u32,
    at: u64,
    direction: Direction,
    length: usize,
    bytes: &[u8],
    comment: &str,
) {
    block(file, ENHANCED_PACKET, |body| {
        head(body, port, at, bytes.len(), length);
        padded(body, bytes);
        // To the switch, or from it.
        let inbound_or_outbound = if direction == Direction::Sent { 1u32 } else { 2 };
        option(body, PACKET_FLAGS, &inbound_or_outbound.to_le_bytes());
        if !comment.is_empty() {
            option(body, COMMENT, comment.as_bytes());
        }
        end_options(body);
    });
}

/// A change, at the interface after the last port's.
pub(super) fn note(file: &mut Vec<u8>, faults: u32, at: u64, text: &str) {
    let mut bytes = Vec::new();
    let dissector = b"syslog\0\0";
    bytes.extend(DISSECTOR_NAME.to_be_bytes());
    bytes.extend((dissector.len() as u16).to_be_bytes());
    bytes.extend(dissector);
    bytes.extend([0; 4]);
    // Facility "user", severity "notice".
    bytes.extend(b"<13>");
    bytes.extend(text.as_bytes());
    block(file, ENHANCED_PACKET, |body| {
        head(body, faults, at, bytes.len(), bytes.len());
        padded(body, &bytes);
        option(body, COMMENT, text.as_bytes());
        end_options(body);
    });
}

/// A block: its type, its length, its body, its length again.
fn block(file: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = file.len();
    file.extend(kind.to_le_bytes());
    file.extend([0; 4]);
    body(file);
    let length = (file.len() - start + 4) as u32;
    file.extend(length.to_le_bytes());
    file[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

fn head(body: &mut Vec<u8>, interface: u32, at: u64, kept: usize, length: usize) {
    for word in [interface, (at >> 32) as u32, at as u32, kept as u32, length as u32] {
        body.extend(word.to_le_bytes());
    }
}

/// An option: its code, the length of its value, the value.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn end_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Bytes, and as many zeroes as make them end on four.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.extend(std::iter::repeat_n(0, bytes.len().next_multiple_of(4) - bytes.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types of the blocks of a file, each of which says its length at both its ends.
    fn blocks(mut file: &[u8]) -> Vec<u32> {
        let mut kinds = Vec::new();
        while let Some((head, _)) = file.split_first_chunk::<8>() {
            let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let length = word(4) as usize;
            assert!(length.is_multiple_of(4) && length <= file.len());
            assert_eq!(file[length - 4..length], head[4..]);
            kinds.push(word(0));
            file = &file[length..];
        }
        assert!(file.is_empty());
        kinds
    }

    #[test]
    fn blocks_follow_each_other_whatever_is_in_them() {
        let mut file = start(&["n1".to_owned(), "a-client".to_owned()], 100);
        for length in 0..9 {
            packet(&mut file, 1, 5, Direction::Sent, 50, &vec![7; length], &"c".repeat(length));
            note(&mut file, 2, 6, &"n".repeat(length));
        }
        let kinds = blocks(&file);
        assert_eq!(kinds[..4], [SECTION, INTERFACE, INTERFACE, INTERFACE]);
        assert_eq!(kinds[4..], [ENHANCED_PACKET; 18]);
    }
}
