//! What is in a frame: IPv4 packets with TCP or UDP, their sizes and checksums; damaging them and
//! forging resets. Pure.
//!
//! Frames come with a virtio network header ([`crate::frame`]). A frame may leave its checksum to
//! be completed later (`NEEDS_CSUM`: the field holds the sum of the pseudo header only), and may
//! carry many segments (its segment size is then in the header). Whatever can't be understood (ARP,
//! IPv6, fragments, other protocols) is left alone.

use crate::frame::OFFLOAD_HEADER;
use crate::rule::Flip;

const ETHERNET_HEADER: usize = 14;
const IP: usize = OFFLOAD_HEADER + ETHERNET_HEADER;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is yet to be completed.
const NEEDS_CHECKSUM: u8 = 1;

/// TCP flags (RFC 9293, section 3.1).
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Where things are in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    protocol: u8,
    /// Where the TCP or UDP header starts.
    transport: usize,
    /// Where what it carries starts.
    payload: usize,
    /// Where the packet ends; Ethernet may have padded it.
    end: usize,
}

/// The layout of a frame with a whole TCP or UDP packet in IPv4.
fn layout(frame: &[u8]) -> Option<Layout> {
    let ip = frame.get(IP..)?;
    let is_ipv4 = frame[IP - 2..IP] == [8, 0] && ip.first()? >> 4 == 4;
    if !is_ipv4 || ip.len() < 20 {
        return None;
    }
    let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    let transport = IP + usize::from(ip[0] & 15) * 4;
    // Zero if it is larger than the field can say.
    let end = match u16::from_be_bytes([ip[2], ip[3]]) {
        0 => frame.len(),
        length => IP + usize::from(length),
    };
    let header = match ip[9] {
        TCP => usize::from(*frame.get(transport + 12)? >> 4) * 4,
        UDP => 8,
        _ => return None,
    };
    let least = if ip[9] == TCP { TCP_HEADER } else { 8 };
    let sound = !is_fragment && transport >= IP + 20 && header >= least && transport + header <= end;
    (sound && end <= frame.len()).then(|| Layout { protocol: ip[9], transport, payload: transport + header, end })
}

/// Where the checksum of a packet is.
fn checksum_at(layout: &Layout) -> usize {
    layout.transport + if layout.protocol == TCP { 16 } else { 6 }
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn double_word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

/// A field of the virtio header, which is in the machine's own byte order.
fn offload(frame: &[u8], at: usize) -> usize {
    frame.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

/// The ones' complement sum of big-endian words (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let total: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    u32::from(fold(total + rest.first().map_or(0, |byte| u64::from(*byte) << 8)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// How the bytes of a frame are to be counted on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnWire {
    /// The size of its largest IP packet.
    pub(crate) packet: u32,
    /// The size of all its Ethernet frames together.
    pub(crate) bytes: usize,
}

/// What a frame would be on a wire, where large frames go in segments.
pub(crate) fn on_wire(frame: &[u8]) -> OnWire {
    let whole = frame.len().saturating_sub(OFFLOAD_HEADER);
    let one = OnWire { packet: whole.saturating_sub(ETHERNET_HEADER) as u32, bytes: whole };
    let segment = offload(frame, 4);
    if frame.get(1).is_none_or(|kind| *kind == 0) || segment == 0 {
        return one;
    }
    let Some(layout) = layout(frame) else { return one };
    let headers = layout.payload - OFFLOAD_HEADER;
    let payload = layout.end - layout.payload;
    let segments = payload.div_ceil(segment).max(1);
    OnWire { packet: (headers - ETHERNET_HEADER + segment.min(payload)) as u32, bytes: payload + segments * headers }
}

/// What is to be delivered in place of a frame for a bit of its payload to be flipped: mostly one
/// frame; nothing if there is no payload that we know how to damage.
///
/// To be noticed, the damage needs a complete checksum that was right before: one left to be
/// completed would be made to fit the damaged packet. The kernel completes those of a large frame
/// whatever its header says, so one that is to be damaged goes in segments.
pub(crate) fn damaged(frame: &[u8], flip: Flip) -> Option<Vec<Box<[u8]>>> {
    let layout = layout(frame).filter(|layout| layout.payload < layout.end)?;
    let bit = flip.place.below((layout.end - layout.payload) as u64 * 8) as usize;
    let (offset, mask) = (bit / 8, 1 << (bit % 8));
    if flip.unnoticed {
        let mut frame: Box<[u8]> = frame.into();
        flip_unnoticed(&mut frame, &layout, layout.payload + offset, mask);
        return Some(vec![frame]);
    }
    let segment = if frame[1] == 0 { 0 } else { offload(frame, 4) };
    if segment == 0 {
        let mut frame: Box<[u8]> = frame.into();
        let unsummed = layout.protocol == UDP && word(&frame, checksum_at(&layout)) == 0;
        if frame[0] & NEEDS_CHECKSUM != 0 || unsummed {
            complete_checksum(&mut frame, &layout);
        }
        // Nor is anybody to believe that it has been checked already.
        frame[0] = 0;
        frame[layout.payload + offset] ^= mask;
        return Some(vec![frame]);
    }
    let mut segments = segments(frame, &layout, segment);
    segments[offset / segment][layout.payload + offset % segment] ^= mask;
    Some(segments)
}

/// Flips bits of one byte, and sets the checksum right by the difference (RFC 1624, equation 3)
/// unless there is none or it is yet to be completed.
fn flip_unnoticed(frame: &mut [u8], layout: &Layout, at: usize, mask: u8) {
    frame[at] ^= mask;
    let field = checksum_at(layout);
    let old = word(frame, field);
    if frame[0] & NEEDS_CHECKSUM != 0 || (layout.protocol == UDP && old == 0) {
        return;
    }
    let shift = if (at - layout.transport).is_multiple_of(2) { 8 } else { 0 };
    let (before, after) = (u64::from(frame[at] ^ mask) << shift, u64::from(frame[at]) << shift);
    let checksum = match !fold(u64::from(!old) + (before ^ 0xffff) + after) {
        0 if layout.protocol == UDP => 0xffff,
        checksum => checksum,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The packets that a large frame stands for, each whole and with its checksums.
fn segments(frame: &[u8], layout: &Layout, segment: usize) -> Vec<Box<[u8]>> {
    let payload = &frame[layout.payload..layout.end];
    let count = payload.len().div_ceil(segment);
    let one = |(number, part): (usize, &[u8])| {
        let mut packet = frame[..layout.payload].to_vec();
        packet.extend_from_slice(part);
        let packet_layout = Layout { end: packet.len(), ..*layout };
        packet[..OFFLOAD_HEADER].fill(0);
        let (ip, transport) = (&mut packet[IP..], layout.transport - IP);
        let length = ip.len() as u16;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(number as u16);
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        ip[10..12].fill(0);
        let checksum = !(sum(&ip[..transport]) as u16);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let header = &mut ip[transport..];
        if layout.protocol == TCP {
            let sequence = double_word(header, 4).wrapping_add((number * segment) as u32);
            header[4..8].copy_from_slice(&sequence.to_be_bytes());
            // The end of what was sent, and of the stream, is that of the last one.
            header[13] &= if number + 1 < count { !(FIN | PSH) } else { 0xff };
            header[13] &= if number > 0 { !CWR } else { 0xff };
        } else {
            let length = length - transport as u16;
            header[4..6].copy_from_slice(&length.to_be_bytes());
        }
        complete_checksum(&mut packet, &packet_layout);
        packet.into_boxed_slice()
    };
    payload.chunks(segment).enumerate().map(one).collect()
}

/// Writes the checksum that the packet should have.
fn complete_checksum(frame: &mut [u8], layout: &Layout) {
    let field = checksum_at(layout);
    frame[field..field + 2].fill(0);
    let length = (layout.end - layout.transport) as u64;
    let addresses = u64::from(sum(&frame[IP + 12..IP + 20]));
    let total = addresses
        + u64::from(layout.protocol)
        + (length >> 16)
        + (length & 0xffff)
        + u64::from(sum(&frame[layout.transport..layout.end]));
    let checksum = match !fold(total) {
        0 if layout.protocol == UDP => 0xffff,
        checksum => checksum,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// A forged frame that resets a TCP connection, virtio header included.
pub(crate) type ResetFrame = [u8; IP + 20 + TCP_HEADER];

/// Resets for both ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resets {
    /// For the host that sent the segment.
    pub(crate) to_sender: ResetFrame,
    /// For the host that was to get it; none if the segment was the first of its connection.
    pub(crate) to_receiver: Option<ResetFrame>,
}

/// Whether a frame is a TCP segment that a reset can answer: any but a reset.
pub(crate) fn can_be_reset(frame: &[u8]) -> bool {
    layout(frame).is_some_and(|layout| layout.protocol == TCP && frame[layout.transport + 13] & RST == 0)
}

/// The resets that answer a segment. Both are believed only if their sequence number is just what
/// the receiver expects next (RFC 5961): for the sender what it acknowledges, for the receiver what
/// this segment starts with.
pub(crate) fn resets(frame: &[u8]) -> Option<Resets> {
    let layout = layout(frame).filter(|layout| layout.protocol == TCP)?;
    let tcp = layout.transport;
    let (sequence, acknowledged, flags) = (double_word(frame, tcp + 4), double_word(frame, tcp + 8), frame[tcp + 13]);
    if flags & RST != 0 {
        return None;
    }
    let occupied = (layout.end - layout.payload) as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let end = sequence.wrapping_add(occupied);
    let first = flags & ACK == 0;
    let to_sender = forge(frame, tcp, true, if first { 0 } else { acknowledged }, end);
    let to_receiver = (!first).then(|| forge(frame, tcp, false, sequence, acknowledged));
    Some(Resets { to_sender, to_receiver })
}

/// A reset on the connection of a segment whose TCP header starts at `tcp`: back to its sender, or
/// on to its receiver.
fn forge(segment: &[u8], tcp: usize, back: bool, sequence: u32, acknowledgement: u32) -> ResetFrame {
    let mut frame = [0; IP + 20 + TCP_HEADER];
    // Destination and source, of a length each, stand next to each other in all three headers.
    let mut ends = |to: usize, from: usize, length: usize| {
        let (first, second) = if back { (length, 0) } else { (0, length) };
        frame[to..to + length].copy_from_slice(&segment[from + first..from + first + length]);
        frame[to + length..to + 2 * length].copy_from_slice(&segment[from + second..from + second + length]);
    };
    ends(OFFLOAD_HEADER, OFFLOAD_HEADER, 6);
    ends(IP + 12, IP + 12, 4);
    ends(IP + 20, tcp, 2);
    frame[IP - 2..IP].copy_from_slice(&[8, 0]);
    frame[IP] = 0x45;
    frame[IP + 2..IP + 4].copy_from_slice(&(20 + TCP_HEADER as u16).to_be_bytes());
    // Don't fragment; a time to live; TCP.
    frame[IP + 6] = 0x40;
    frame[IP + 8] = 64;
    frame[IP + 9] = TCP;
    let checksum = !(sum(&frame[IP..IP + 20]) as u16);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    let tcp = IP + 20;
    frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
    frame[tcp + 8..tcp + 12].copy_from_slice(&acknowledgement.to_be_bytes());
    frame[tcp + 12] = 0x50;
    frame[tcp + 13] = RST | ACK;
    let layout = Layout { protocol: TCP, transport: tcp, payload: tcp + TCP_HEADER, end: tcp + TCP_HEADER };
    complete_checksum(&mut frame, &layout);
    frame
}

#[cfg(test)]
mod tests;
