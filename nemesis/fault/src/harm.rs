//! What is done to links and hosts: the harms, with their measures.

use std::fmt;
use std::time::Duration;

use duress_seed::Shape;

use crate::Kind;

/// A share of all frames, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Share = Share(1_000_000);

    /// So many parts per million, at most all of them.
    pub const fn ppm(ppm: u32) -> Share {
        Share(if ppm > 1_000_000 { 1_000_000 } else { ppm })
    }

    /// So many percent.
    pub const fn percent(percent: u32) -> Share {
        Share::ppm(percent.saturating_mul(10_000))
    }

    /// In parts per million.
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// From 0 to 1.
    pub fn of_one(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl fmt::Display for Share {
    /// In percent: `2.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 1e4)
    }
}

/// What becomes of the checksum of a corrupted frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is left as it was, so that the receiving kernel finds the damage and drops the packet.
    #[default]
    Wrong,
    /// It is made right again, so that the receiving program sees the damage.
    Right,
}

/// What links do to what is sent on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkHarm {
    /// Nothing passes.
    Cut,
    /// Everything arrives, but late.
    Delay {
        /// By how much.
        by: Duration,
        /// How much that varies.
        jitter: Duration,
        /// In which way.
        shape: Shape,
    },
    /// A share of the frames is lost.
    Loss(Share),
    /// A share of the frames is held back by `by`, so that later ones overtake them.
    Reorder {
        /// Which share.
        share: Share,
        /// For how long.
        by: Duration,
    },
    /// A share of the frames arrives twice.
    Duplicate(Share),
    /// In a share of the frames a bit of the payload is flipped.
    Corrupt {
        /// Which share.
        share: Share,
        /// Whether the receiving kernel can tell.
        checksum: Checksum,
    },
    /// No more than so many bits a second pass; what is too much waits in a queue, and is lost when
    /// that is full.
    Bandwidth {
        /// Bits per second.
        rate: u64,
    },
    /// Packets larger than this vanish, and small ones pass: a path whose MTU nobody is told.
    BlackHole {
        /// The largest IP packet that passes, in bytes.
        above: u32,
    },
    /// Every TCP connection on which something is sent is reset at both its ends.
    Reset,
    /// The link is cut and whole again in turn.
    Flap {
        /// How long it is cut, and then how long it is whole.
        every: Duration,
    },
}

/// Which clocks of a process are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clocks {
    /// `CLOCK_REALTIME`.
    #[default]
    Wall,
    /// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`, which never run backwards.
    Monotonic,
    /// All of them.
    All,
}

/// A signed time, in nanoseconds: ahead if positive.
pub type Nanos = i64;

/// What a skewed clock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockChange {
    /// It is set ahead, or back if negative.
    Jump(Nanos),
    /// It runs fast by so many parts per million, or slow if negative.
    Rate(i32),
    /// It flips between the true time and one that is ahead.
    Strobe {
        /// By how much it is ahead.
        by: Nanos,
        /// How long it shows each.
        every: Duration,
    },
    /// It stands still.
    Freeze,
}

/// What is done to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostHarm {
    /// Nodes are killed without warning (SIGKILL) and started again at the fault's end.
    Kill,
    /// Hosts stand still (SIGSTOP) until the fault's end; they don't notice it themselves.
    Stop,
    /// Nodes get only this share of the processor's time: of every [`SLICE`], so much.
    Slow(Share),
    /// Nodes are killed and started again and again, each time this long after they were started:
    /// with a short time, while they start up.
    CrashLoop {
        /// How long each life lasts.
        every: Duration,
    },
    /// Nodes may use this many bytes of memory more than they do; one that wants more dies of it
    /// and is started again at the fault's end.
    Memory {
        /// How many more.
        headroom: u64,
    },
    /// Nodes may open this many files or sockets more than they have open.
    Descriptors {
        /// How many more.
        spare: u32,
    },
    /// Nodes are killed, and come back at the fault's end under another address.
    NewAddress,
    /// Clocks of hosts tell another time.
    Clock {
        /// Which of them.
        clocks: Clocks,
        /// What they do.
        change: ClockChange,
    },
    /// The power of nodes fails: they lose their memory, and their disks lose what was not synced.
    /// They start again at the fault's end.
    PowerLoss {
        /// Whether the last unsynced write may survive in part, instead of not at all.
        torn: bool,
    },
    /// The disks of nodes misbehave.
    Disk(DiskHarm),
}

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskHarm {
    /// Reads, writes and syncs take this much longer.
    Slow(Duration),
    /// There is no room: writes that need more fail with `ENOSPC`.
    Full,
    /// Nothing can be changed: `EROFS`.
    ReadOnly,
    /// Syncs fail with `EIO`, and what they should have made durable is not.
    SyncFails,
    /// Syncs succeed at once, and make nothing durable.
    SyncLies,
    /// One bit of what is durable is flipped, in a file chosen by the seed.
    BitFlip,
    /// Reads fail with `EIO`.
    ReadError,
}

/// The period in which a [slow](HostHarm::Slow) host gets its share of the processor.
pub const SLICE: Duration = Duration::from_millis(100);

impl LinkHarm {
    /// The kind of a fault that does this.
    pub fn kind(&self) -> Kind {
        match self {
            LinkHarm::Cut => Kind::Partition,
            LinkHarm::Delay { .. } => Kind::Delay,
            LinkHarm::Loss(_) => Kind::Loss,
            LinkHarm::Reorder { .. } => Kind::Reorder,
            LinkHarm::Duplicate(_) => Kind::Duplicate,
            LinkHarm::Corrupt { .. } => Kind::Corrupt,
            LinkHarm::Bandwidth { .. } => Kind::Bandwidth,
            LinkHarm::BlackHole { .. } => Kind::BlackHole,
            LinkHarm::Reset => Kind::Reset,
            LinkHarm::Flap { .. } => Kind::Flap,
        }
    }
}

impl HostHarm {
    /// The kind of a fault that does this.
    pub fn kind(&self) -> Kind {
        match self {
            HostHarm::Kill => Kind::Crash,
            HostHarm::Stop => Kind::Pause,
            HostHarm::Slow(_) => Kind::Slow,
            HostHarm::CrashLoop { .. } => Kind::CrashLoop,
            HostHarm::Memory { .. } => Kind::Memory,
            HostHarm::Descriptors { .. } => Kind::Descriptors,
            HostHarm::NewAddress => Kind::NewAddress,
            HostHarm::Clock { change: ClockChange::Jump(_), .. } => Kind::ClockJump,
            HostHarm::Clock { change: ClockChange::Rate(_), .. } => Kind::ClockRate,
            HostHarm::Clock { change: ClockChange::Strobe { .. }, .. } => Kind::ClockStrobe,
            HostHarm::Clock { change: ClockChange::Freeze, .. } => Kind::ClockFreeze,
            HostHarm::PowerLoss { .. } => Kind::PowerLoss,
            HostHarm::Disk(DiskHarm::Slow(_)) => Kind::SlowDisk,
            HostHarm::Disk(DiskHarm::Full) => Kind::FullDisk,
            HostHarm::Disk(DiskHarm::ReadOnly) => Kind::ReadOnlyDisk,
            HostHarm::Disk(DiskHarm::SyncFails) => Kind::SyncFails,
            HostHarm::Disk(DiskHarm::SyncLies) => Kind::SyncLies,
            HostHarm::Disk(DiskHarm::BitFlip) => Kind::BitFlip,
            HostHarm::Disk(DiskHarm::ReadError) => Kind::ReadError,
        }
    }

    /// Whether only nodes can be hit, not client hosts: what happens to their disks and lives.
    pub fn nodes_only(&self) -> bool {
        !matches!(self, HostHarm::Stop | HostHarm::Clock { .. })
    }

    /// Whether it is done to disks, and so needs a file system that does it.
    pub fn needs_disk(&self) -> bool {
        matches!(self, HostHarm::PowerLoss { .. } | HostHarm::Disk(_))
    }

    /// Whether a node that is hit is down until the fault's end.
    pub fn takes_down(&self) -> bool {
        matches!(self, HostHarm::Kill | HostHarm::NewAddress | HostHarm::PowerLoss { .. })
    }
}

/// A signed time as people write it: `-500ms`, `+2s`.
fn signed(nanos: Nanos) -> String {
    let sign = if nanos < 0 { '-' } else { '+' };
    format!("{sign}{:?}", Duration::from_nanos(nanos.unsigned_abs()))
}

impl fmt::Display for LinkHarm {
    /// What it does, as it follows a kind: "delay of 100ms". A cut needs no more words than its
    /// kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            LinkHarm::Cut | LinkHarm::Reset => write!(f, "{kind}"),
            LinkHarm::Delay { by, shape: Shape::Constant, .. } => write!(f, "delay of {by:?}"),
            LinkHarm::Delay { by, jitter, shape } => {
                let shape = match shape {
                    Shape::Constant => "constant",
                    Shape::Uniform => "uniform",
                    Shape::Normal => "normal",
                    Shape::Pareto => "Pareto",
                };
                write!(f, "delay of {by:?} and {jitter:?} of {shape} jitter")
            }
            LinkHarm::Loss(share) | LinkHarm::Duplicate(share) => write!(f, "{kind} of {share}"),
            LinkHarm::Reorder { share, by } => write!(f, "reorder of {share} by {by:?}"),
            LinkHarm::Corrupt { share, checksum: Checksum::Wrong } => write!(f, "corrupt of {share}"),
            LinkHarm::Corrupt { share, checksum: Checksum::Right } => {
                write!(f, "corrupt of {share}, unnoticed by checksums")
            }
            LinkHarm::Bandwidth { rate } => write!(f, "bandwidth of {rate} bit/s"),
            LinkHarm::BlackHole { above } => write!(f, "black-hole for packets above {above} bytes"),
            LinkHarm::Flap { every } => write!(f, "flap every {every:?}"),
        }
    }
}

impl fmt::Display for HostHarm {
    /// What it does: "slow to 10%".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            HostHarm::Kill | HostHarm::Stop | HostHarm::NewAddress => write!(f, "{kind}"),
            HostHarm::Slow(share) => write!(f, "slow to {share}"),
            HostHarm::CrashLoop { every } => write!(f, "crash-loop every {every:?}"),
            HostHarm::Memory { headroom } => write!(f, "memory for {headroom} bytes more"),
            HostHarm::Descriptors { spare } => write!(f, "descriptors for {spare} more"),
            HostHarm::Clock { clocks, change } => {
                match change {
                    ClockChange::Jump(by) => write!(f, "{kind} of {}", signed(*by))?,
                    ClockChange::Rate(ppm) => write!(f, "{kind} of {ppm:+} ppm")?,
                    ClockChange::Strobe { by, every } => write!(f, "{kind} of {} every {every:?}", signed(*by))?,
                    ClockChange::Freeze => write!(f, "{kind}")?,
                }
                match clocks {
                    Clocks::Wall => Ok(()),
                    Clocks::Monotonic => f.write_str(" of monotonic clocks"),
                    Clocks::All => f.write_str(" of all clocks"),
                }
            }
            HostHarm::PowerLoss { torn: false } => write!(f, "{kind}"),
            HostHarm::PowerLoss { torn: true } => write!(f, "{kind} with torn writes"),
            HostHarm::Disk(DiskHarm::Slow(by)) => write!(f, "{kind} by {by:?}"),
            HostHarm::Disk(_) => write!(f, "{kind}"),
        }
    }
}
