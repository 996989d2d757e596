//! The kinds of faults: their names, what they are done to, and their typical measures.

use std::fmt;
use std::time::Duration;

use crate::harm::{Checksum, ClockChange, Clocks, DiskHarm, HostHarm, LinkHarm, Share};
use crate::{Effect, Shape};

/// What a kind of fault is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// Directed links between hosts.
    Links,
    /// Hosts.
    Hosts,
}

macro_rules! kinds {
    ($($kind:ident, $on:ident, $name:literal, $line:literal;)*) => {
        /// The kinds of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $line] $kind,)*
        }

        impl Kind {
            /// Every kind, with one line about it.
            pub const ALL: &'static [(Kind, &'static str)] = &[$((Kind::$kind, $line),)*];

            /// Its short name: `partition`, `crash`, ….
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            /// What it is done to.
            pub fn on(self) -> On {
                match self {
                    $(Kind::$kind => On::$on,)*
                }
            }
        }
    };
}

// The order is part of what a plan draws from a seed: new kinds go to the end.
kinds! {
    Partition, Links, "partition", "cuts links between hosts; what is sent on them is lost";
    Crash, Hosts, "crash", "kills nodes without warning and starts them again from their disks";
    Pause, Hosts, "pause", "stops hosts in their tracks and resumes them, without their noticing";
    Delay, Links, "delay", "makes links slow, evenly or not; everything arrives, but late";
    Loss, Links, "loss", "loses a share of the frames on links";
    Reorder, Links, "reorder", "lets frames on links overtake others";
    Duplicate, Links, "duplicate", "delivers a share of the frames on links twice";
    Corrupt, Links, "corrupt", "flips bits in a share of the frames on links";
    Bandwidth, Links, "bandwidth", "lets only so many bits a second pass";
    BlackHole, Links, "black-hole", "swallows large packets; small ones pass";
    Reset, Links, "reset", "resets the TCP connections on links, at both ends";
    Flap, Links, "flap", "cuts links and opens them again, in turn";
    Slow, Hosts, "slow", "leaves nodes a share of the processor's time";
    CrashLoop, Hosts, "crash-loop", "kills nodes again and again, soon after each start";
    Memory, Hosts, "memory", "leaves nodes little more memory than they use";
    Descriptors, Hosts, "descriptors", "leaves nodes hardly any file descriptors";
    NewAddress, Hosts, "new-address", "kills nodes, which come back under another address";
    ClockJump, Hosts, "clock-jump", "sets the clocks of hosts ahead or back";
    ClockRate, Hosts, "clock-rate", "lets the clocks of hosts run fast or slow";
    ClockStrobe, Hosts, "clock-strobe", "lets the clocks of hosts flip ahead and back, again and again";
    ClockFreeze, Hosts, "clock-freeze", "lets the clocks of hosts stand still";
    PowerLoss, Hosts, "power-loss", "kills nodes, whose disks lose what was not synced";
    SlowDisk, Hosts, "slow-disk", "lets the disks of nodes take longer";
    FullDisk, Hosts, "full-disk", "leaves no room on the disks of nodes";
    ReadOnlyDisk, Hosts, "read-only-disk", "lets the disks of nodes refuse every change";
    SyncFails, Hosts, "sync-fails", "lets syncs of nodes fail";
    SyncLies, Hosts, "sync-lies", "lets syncs of nodes succeed that make nothing durable";
    BitFlip, Hosts, "bit-flip", "flips a bit of what nodes had made durable";
    ReadError, Hosts, "read-error", "lets reads from the disks of nodes fail";
}

impl Kind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().map(|(kind, _)| *kind).find(|kind| kind.name() == name)
    }

    /// What faults of this kind do if nothing else is said; plans draw from these.
    pub fn typical(self) -> Vec<Effect> {
        let ms = Duration::from_millis;
        let nanos = |ms: i64| ms * 1_000_000;
        let clock = |clocks: Clocks, changes: &[ClockChange]| {
            changes.iter().map(|change| Effect::Hosts(HostHarm::Clock { clocks, change: *change })).collect()
        };
        let disk = |harm| vec![Effect::Hosts(HostHarm::Disk(harm))];
        let links = |harms: &[LinkHarm]| harms.iter().map(|harm| Effect::Links(*harm)).collect();
        let hosts = |harms: &[HostHarm]| harms.iter().map(|harm| Effect::Hosts(*harm)).collect();
        match self {
            Kind::Partition => links(&[LinkHarm::Cut]),
            Kind::Delay => links(&[LinkHarm::Delay { by: ms(200), jitter: Duration::ZERO, shape: Shape::Constant }]),
            Kind::Loss => links(&[LinkHarm::Loss(Share::percent(5)), LinkHarm::Loss(Share::percent(30))]),
            Kind::Reorder => links(&[LinkHarm::Reorder { share: Share::percent(10), by: ms(5) }]),
            Kind::Duplicate => links(&[LinkHarm::Duplicate(Share::percent(20))]),
            Kind::Corrupt => links(
                &[Checksum::Wrong, Checksum::Right]
                    .map(|checksum| LinkHarm::Corrupt { share: Share::percent(5), checksum }),
            ),
            Kind::Bandwidth => links(&[LinkHarm::Bandwidth { rate: 1_000_000 }]),
            Kind::BlackHole => links(&[LinkHarm::BlackHole { above: 576 }]),
            Kind::Reset => links(&[LinkHarm::Reset]),
            Kind::Flap => links(&[LinkHarm::Flap { every: ms(200) }]),
            Kind::Crash => hosts(&[HostHarm::Kill]),
            Kind::Pause => hosts(&[HostHarm::Stop]),
            Kind::Slow => hosts(&[HostHarm::Slow(Share::percent(5)), HostHarm::Slow(Share::percent(30))]),
            Kind::CrashLoop => hosts(&[HostHarm::CrashLoop { every: ms(10) }, HostHarm::CrashLoop { every: ms(300) }]),
            Kind::Memory => hosts(&[HostHarm::Memory { headroom: 1 << 20 }]),
            Kind::Descriptors => hosts(&[HostHarm::Descriptors { spare: 1 }]),
            Kind::NewAddress => hosts(&[HostHarm::NewAddress]),
            Kind::ClockJump => {
                clock(Clocks::Wall, &[500, -500, 60_000, -60_000].map(|by| ClockChange::Jump(nanos(by))))
            }
            Kind::ClockRate => clock(Clocks::All, &[500, -500, 50_000, -50_000].map(ClockChange::Rate)),
            Kind::ClockStrobe => clock(Clocks::Wall, &[ClockChange::Strobe { by: nanos(200), every: ms(10) }]),
            Kind::ClockFreeze => clock(Clocks::Wall, &[ClockChange::Freeze]),
            Kind::PowerLoss => hosts(&[false, true].map(|torn| HostHarm::PowerLoss { torn })),
            Kind::SlowDisk => disk(DiskHarm::Slow(ms(20))),
            Kind::FullDisk => disk(DiskHarm::Full),
            Kind::ReadOnlyDisk => disk(DiskHarm::ReadOnly),
            Kind::SyncFails => disk(DiskHarm::SyncFails),
            Kind::SyncLies => disk(DiskHarm::SyncLies),
            Kind::BitFlip => disk(DiskHarm::BitFlip),
            Kind::ReadError => disk(DiskHarm::ReadError),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_typical_measures_of_its_kind() {
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|(kind, _)| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for (kind, _) in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(*kind));
            assert!(!kind.typical().is_empty(), "{kind}");
            assert!(kind.typical().iter().all(|effect| effect.kind() == *kind), "{kind}");
        }
    }
}
