//! Packets made by hand, and the checksum as RFC 1071 has it, word by word.

use super::*;
use duress_seed::Seed;

const SEGMENT: usize = 1448;

/// A packet from 10.0.0.1:1000 to 10.0.0.2:2000 with a right checksum.
fn packet(protocol: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = if protocol == TCP { TCP_HEADER } else { 8 };
    let mut frame = vec![0; IP + 20 + header];
    frame[OFFLOAD_HEADER..OFFLOAD_HEADER + 12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[IP - 2] = 8;
    frame[IP] = 0x45;
    frame[IP + 2..IP + 4].copy_from_slice(&((20 + header + payload.len()) as u16).to_be_bytes());
    frame[IP + 9] = protocol;
    frame[IP + 12..IP + 20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[IP + 20..IP + 24].copy_from_slice(&[0x03, 0xe8, 0x07, 0xd0]);
    if protocol == TCP {
        frame[IP + 24..IP + 28].copy_from_slice(&1000u32.to_be_bytes());
        frame[IP + 28..IP + 32].copy_from_slice(&2000u32.to_be_bytes());
        frame[IP + 32] = 0x50;
        frame[IP + 33] = flags;
    } else {
        frame[IP + 24..IP + 26].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    }
    frame.extend_from_slice(payload);
    let found = layout(&frame).expect("it is a sound packet");
    complete_checksum(&mut frame, &found);
    frame
}

/// Leaves the checksum to be completed by the receiving end, as an offloading sender does.
fn unfinished(mut frame: Vec<u8>) -> Vec<u8> {
    let found = layout(&frame).unwrap();
    let length = (found.end - found.transport) as u64;
    let pseudo = fold(u64::from(sum(&frame[IP + 12..IP + 20])) + u64::from(found.protocol) + length);
    let field = checksum_at(&found);
    frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame[0] = NEEDS_CHECKSUM;
    frame
}

/// Whether the receiver finds the checksum right: all words with the pseudo header sum to ffff.
fn is_sound(frame: &[u8]) -> bool {
    let end = IP + usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    let mut words: Vec<u32> = Vec::new();
    let mut bytes = frame[IP + 12..IP + 20].to_vec();
    bytes.extend([0, frame[IP + 9]]);
    bytes.extend(((end - IP - 20) as u16).to_be_bytes());
    bytes.extend(&frame[IP + 20..end]);
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
    words.extend(bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])));
    let mut total = 0u32;
    for word in words {
        total += word;
        total = (total & 0xffff) + (total >> 16);
    }
    total == 0xffff
}

fn flip(seed: u64, unnoticed: bool) -> Flip {
    Flip { place: Seed(seed).decide(&[]), unnoticed }
}

fn different_bits(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// A damaged frame that is one frame still.
fn damage(frame: &[u8], flip: Flip) -> Vec<u8> {
    let [one] = &damaged(frame, flip).expect("there is payload")[..] else { panic!("it is one frame") };
    one.to_vec()
}

#[test]
fn damage_is_noticed_or_not_as_asked() {
    for protocol in [TCP, UDP] {
        for length in [1, 2, 3, 50, 999] {
            for seed in 0..40 {
                let payload: Vec<u8> = (0..length).map(|i| (i * 7 + seed) as u8).collect();
                let whole = packet(protocol, ACK, &payload);
                assert!(is_sound(&whole));
                let start = whole.len() - payload.len();

                for before in [whole.clone(), unfinished(whole.clone())] {
                    let wrong = damage(&before, flip(seed, false));
                    assert_eq!(different_bits(&wrong[start..], &payload), 1);
                    assert!(!is_sound(&wrong) && wrong[0] == 0, "nobody may complete it");
                }

                let right = damage(&whole, flip(seed, true));
                assert_eq!(different_bits(&right[start..], &payload), 1);
                assert!(is_sound(&right));
                let mut later = damage(&unfinished(whole), flip(seed, true));
                assert_eq!((later[0], different_bits(&later[start..], &payload)), (NEEDS_CHECKSUM, 1));
                let found = layout(&later).unwrap();
                complete_checksum(&mut later, &found);
                assert!(is_sound(&later));
            }
        }
    }
}

#[test]
fn datagrams_without_checksum_get_one_if_damage_is_to_be_noticed() {
    let mut frame = packet(UDP, 0, b"without");
    frame[IP + 26..IP + 28].fill(0);
    assert_eq!(damage(&frame, flip(1, true))[IP + 26..IP + 28], [0, 0]);
    let noticed = damage(&frame, flip(1, false));
    assert!(noticed[IP + 26..IP + 28] != [0, 0] && !is_sound(&noticed));
}

#[test]
fn what_is_not_understood_is_left_alone() {
    let sound = packet(TCP, ACK, b"payload");
    let with = |at: usize, byte: u8| {
        let mut frame = sound.clone();
        frame[at] = byte;
        frame
    };
    let cases = [
        ("nothing in it", packet(TCP, ACK, b"")),
        ("ARP", with(IP - 1, 6)),
        ("IPv6", with(IP, 0x65)),
        ("ICMP", with(IP + 9, 1)),
        ("a fragment", with(IP + 7, 1)),
        ("more fragments", with(IP + 6, 0x20)),
        ("a length beyond its end", with(IP + 3, 0xff)),
        ("a header beyond its end", with(IP + 32, 0xf0)),
        ("a TCP header that is too short", with(IP + 32, 0x40)),
        ("an IP header that is too short", with(IP, 0x41)),
        ("a stump", sound[..IP + 25].to_vec()),
        ("a shorter stump", sound[..IP + 5].to_vec()),
        ("nothing at all", Vec::new()),
    ];
    for (what, frame) in cases {
        assert_eq!((damaged(&frame, flip(3, true)), damaged(&frame, flip(3, false))), (None, None), "{what}");
        let _ = (on_wire(&frame), resets(&frame), can_be_reset(&frame));
    }
}

/// Whatever is in a frame, nothing here panics.
#[test]
fn rubbish_is_harmless() {
    for seed in 0..20_000 {
        let length = Seed(seed).decide(&[0]).below(120) as usize;
        let mut frame: Vec<u8> = (0..length as u64).map(|i| Seed(seed).decide(&[1, i]).bits() as u8).collect();
        if length > IP {
            frame[IP - 2..=IP].copy_from_slice(&[8, 0, 0x45]);
        }
        if length > IP + 9 {
            frame[IP + 9] = if seed % 2 == 0 { TCP } else { UDP };
        }
        let _ = (on_wire(&frame), resets(&frame), can_be_reset(&frame));
        let _ = damaged(&frame, flip(seed, seed % 3 == 0));
    }
}

#[test]
fn a_large_frame_is_many_packets_on_a_wire() {
    let mut frame = packet(TCP, ACK, &[0; 10 * SEGMENT + 1]);
    let whole = frame.len() - OFFLOAD_HEADER;
    assert_eq!(on_wire(&frame), OnWire { packet: whole as u32 - 14, bytes: whole });
    frame[1] = 1;
    frame[4..6].copy_from_slice(&(SEGMENT as u16).to_ne_bytes());
    assert_eq!(on_wire(&frame), OnWire { packet: 40 + 1448, bytes: 10 * SEGMENT + 1 + 11 * 54 });
}

/// Put together again, the segments are what the large frame was, but for one bit.
#[test]
fn a_large_frame_is_damaged_in_segments() {
    let payload: Vec<u8> = (0..5 * SEGMENT + 3).map(|i| (i % 251) as u8).collect();
    let mut frame = unfinished(packet(TCP, ACK | FIN | PSH | CWR, &payload));
    frame[1] = 1;
    frame[4..6].copy_from_slice(&(SEGMENT as u16).to_ne_bytes());
    for seed in 0..50 {
        let segments = damaged(&frame, flip(seed, false)).expect("there is payload");
        assert_eq!(segments.len(), 6);
        assert_eq!(segments.iter().filter(|segment| !is_sound(segment)).count(), 1);
        let mut together = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            assert_eq!(fold(u64::from(sum(&segment[IP..IP + 20]))), 0xffff, "the IP header is sound");
            assert_eq!(word(segment, IP + 4), number as u16);
            assert_eq!(double_word(segment, IP + 24), 1000 + together.len() as u32);
            let expected = ACK | if number == 5 { FIN | PSH } else { 0 } | if number == 0 { CWR } else { 0 };
            assert_eq!((segment[IP + 33], segment[0], segment[1]), (expected, 0, 0));
            together.extend_from_slice(&segment[IP + 40..]);
        }
        assert_eq!(together.len(), payload.len());
        assert_eq!(different_bits(&together, &payload), 1);
        assert_eq!(damaged(&frame, flip(seed, true)).map(|frames| frames.len()), Some(1), "it stays whole");
    }
}

#[test]
fn resets_say_what_both_ends_expect() {
    let found = resets(&packet(TCP, ACK, b"four")).expect("a segment");
    let read = |frame: &ResetFrame| {
        assert!(is_sound(frame) && fold(u64::from(sum(&frame[IP..IP + 20]))) == 0xffff);
        assert_eq!(frame[IP + 33], RST | ACK);
        (
            frame[OFFLOAD_HEADER + 5],
            frame[IP + 15],
            (word(frame, IP + 20), word(frame, IP + 22)),
            (double_word(frame, IP + 24), double_word(frame, IP + 28)),
        )
    };
    assert_eq!(read(&found.to_sender), (1, 2, (2000, 1000), (2000, 1004)));
    assert_eq!(read(&found.to_receiver.unwrap()), (2, 1, (1000, 2000), (1000, 2000)));

    let first = resets(&packet(TCP, SYN, b"")).expect("the first segment of a connection");
    assert_eq!(read(&first.to_sender).3, (0, 1001), "it acknowledges what was sent, as it must");
    assert_eq!(first.to_receiver, None, "who has heard nothing yet is told nothing");

    let reset = packet(TCP, RST, b"");
    assert_eq!(resets(&reset), None, "resets are not answered");
    assert!(!can_be_reset(&reset) && can_be_reset(&packet(TCP, FIN | ACK, b"")));
    assert!(!can_be_reset(&packet(UDP, 0, b"x")));
}
