//! One node's disk: its log, what a crash leaves of it, and what is wrong with it meanwhile.
//!
//! Records are kept as they are and turned into bytes only when a crash tears them. What is then
//! left is read back by the machine ([`duress_machine::Machine::read_log`]), by the same code that reads a
//! real log.

use duress_fault::DiskHarm;
use duress_machine::wal::{self, Damage, Recovered, Tail};
use duress_seed::Decision;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A record, and how many records of the log are durable wherever it is found: those that were when
/// it was written, or all that replaced an earlier log together with it.
#[derive(Clone, Debug)]
struct Written<R> {
    record: R,
    synced: u32,
}

#[derive(Clone, Debug)]
enum Write<R> {
    Append(Written<R>),
    Rewrite(Vec<R>),
}

/// A log on a disk. Writes become durable in groups: while a sync is under way, what is written
/// waits for the next one, as in the real node's disk thread.
#[derive(Clone, Debug)]
pub(crate) struct Disk<R> {
    log: Vec<Written<R>>,
    pending: Vec<Write<R>>,
    /// Writes of this life that are durable.
    durable: u64,
    /// The sync under way makes writes up to this one durable.
    syncing: Option<u64>,
    /// Another sync was asked for meanwhile, up to this write.
    wanted: Option<u64>,
    pub(crate) syncs: u64,
    /// What is wrong with it.
    harms: Vec<DiskHarm>,
    /// What is really durable, since a sync has lied.
    truth: Option<Vec<Written<R>>>,
    /// Bits of the log's bytes that are flipped, by their places.
    flipped: Vec<u64>,
    /// What the last crash left, until the next start finds out.
    left: Left,
}

/// What reads a log's bytes: [`Machine::read_log`](duress_machine::Machine::read_log).
pub(crate) trait Read<R>: FnOnce(&[u8]) -> Result<Recovered<R>, Damage> {}

impl<R, F: FnOnce(&[u8]) -> Result<Recovered<R>, Damage>> Read<R> for F {}

/// What a start finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing was being written.
    Whole,
    /// All that was being written turned out to be there.
    Kept,
    /// Some of what was being written is missing.
    Missing,
    /// A record was torn, or stands behind a hole.
    Torn,
    /// What had been durable was damaged.
    Damaged,
}

impl Left {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Left::Whole => "with nothing unsynced",
            Left::Kept => "with all unsynced records kept",
            Left::Missing => "with unsynced records lost",
            Left::Torn => "with a torn last record",
            Left::Damaged => "with a damaged log",
        }
    }
}

impl<R> Default for Disk<R> {
    fn default() -> Self {
        Disk {
            log: Vec::new(),
            pending: Vec::new(),
            durable: 0,
            syncing: None,
            wanted: None,
            syncs: 0,
            harms: Vec::new(),
            truth: None,
            flipped: Vec::new(),
            left: Left::Whole,
        }
    }
}

impl<R: Clone + Serialize + DeserializeOwned> Disk<R> {
    /// A new disk, in old memory.
    pub(crate) fn clear(&mut self) {
        let mut log = std::mem::take(&mut self.log);
        let mut pending = std::mem::take(&mut self.pending);
        log.clear();
        pending.clear();
        *self = Disk { log, pending, ..Disk::default() };
    }

    pub(crate) fn append(&mut self, record: R) {
        let synced =
            if self.pending.iter().any(|write| matches!(write, Write::Rewrite(_))) { 0 } else { self.log.len() as u32 };
        self.pending.push(Write::Append(Written { record, synced }));
    }

    pub(crate) fn rewrite(&mut self, records: Vec<R>) {
        self.pending.push(Write::Rewrite(records));
    }

    /// A sync of everything so far is asked for. Returns what it covers if it begins now.
    pub(crate) fn sync(&mut self) -> Option<u64> {
        let through = self.durable + self.pending.len() as u64;
        if self.syncing.is_some() {
            self.wanted = Some(through);
            return None;
        }
        self.syncing = Some(through);
        Some(through)
    }

    /// From now on this is wrong with it. A bit is flipped at the place that `decision` chooses.
    pub(crate) fn harm(&mut self, harm: DiskHarm, decision: Decision) {
        if harm == DiskHarm::BitFlip {
            let bits = self.bytes().0.len() as u64 * 8;
            // Of an empty log there is nothing to flip.
            self.flipped.extend((bits > 0).then(|| decision.below(bits)));
        }
        self.harms.push(harm);
    }

    /// This is not wrong with it any more. A bit is flipped back, unless it was overwritten.
    pub(crate) fn mend(&mut self, harm: DiskHarm) {
        if let Some(at) = self.harms.iter().position(|other| *other == harm) {
            self.harms.swap_remove(at);
        }
        if harm == DiskHarm::BitFlip {
            self.flipped.pop();
        }
    }

    /// Whether this is wrong with it.
    pub(crate) fn is(&self, harm: DiskHarm) -> bool {
        self.harms.contains(&harm)
    }

    /// Whether a bit of the log is flipped.
    pub(crate) fn is_flipped(&self) -> bool {
        !self.flipped.is_empty()
    }

    /// Whether nothing can be written.
    pub(crate) fn refuses(&self) -> bool {
        self.is(DiskHarm::Full) || self.is(DiskHarm::ReadOnly)
    }

    /// Whether a starting node can't open its log: to read it, or to lock it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is(DiskHarm::ReadError) || self.is(DiskHarm::ReadOnly)
    }

    /// By how much longer a sync takes.
    pub(crate) fn slower(&self) -> Duration {
        let by = |harm: &DiskHarm| if let DiskHarm::Slow(by) = harm { *by } else { Duration::ZERO };
        self.harms.iter().map(by).max().unwrap_or_default()
    }

    /// The sync under way is over. Returns what the next one covers, if one begins now.
    pub(crate) fn synced(&mut self) -> Option<u64> {
        if !self.is(DiskHarm::SyncLies) {
            self.truth = None;
        } else if self.truth.is_none() {
            self.truth = Some(self.log.clone());
        }
        if let Some(through) = self.syncing.take() {
            let count = (through - self.durable) as usize;
            self.settle(count);
            self.durable = through;
        }
        self.wanted.take()?;
        self.sync()
    }

    /// The first `count` pending writes become part of the log.
    fn settle(&mut self, count: usize) {
        for write in self.pending.drain(..count) {
            match write {
                Write::Append(written) => self.log.push(written),
                Write::Rewrite(records) => {
                    self.log.clear();
                    self.flipped.clear();
                    let synced = records.len() as u32;
                    self.log.extend(records.into_iter().map(|record| Written { record, synced }));
                }
            }
        }
    }

    fn forget_life(&mut self) {
        self.pending.clear();
        self.durable = 0;
        self.syncing = None;
        self.wanted = None;
    }

    /// The process was killed. Some of what it was writing had reached the operating system, and
    /// stays.
    pub(crate) fn kill(&mut self, decision: Decision) {
        let pending = self.pending.len();
        let kept = decision.below(pending as u64 + 1) as usize;
        self.left = match pending {
            0 => Left::Whole,
            _ if kept == pending => Left::Kept,
            _ => Left::Missing,
        };
        self.settle(kept);
        self.forget_life();
    }

    /// The power failed. What was not synced is lost.
    pub(crate) fn power_loss(&mut self) {
        let lied = self.truth.take();
        if self.left != Left::Damaged && (lied.is_some() || !self.pending.is_empty()) {
            self.left = Left::Missing;
        }
        if let Some(truth) = lied {
            // A bit behind its end was flipped in what had never been there.
            self.log = truth;
            let bits = self.bytes().0.len() as u64 * 8;
            self.flipped.retain(|bit| *bit < bits);
        }
        self.forget_life();
    }

    /// The power failed. What was not synced is lost, or has reached the disk in part, in any
    /// order.
    /// `read` reads the log back.
    pub(crate) fn tear(&mut self, how: Decision, place: Decision, read: impl Read<R>) {
        if self.truth.is_some() {
            return self.power_loss();
        }
        if self.pending.is_empty() {
            self.left = Left::Whole;
            return self.forget_life();
        }
        // A rename that was not synced has happened or not; what stands before it is gone or not
        // reached.
        let unsynced = self.log.len();
        let reached = how.below(4);
        let upto = match reached {
            0 => 0,
            1 => place.below(self.pending.len() as u64 + 1) as usize,
            _ => self.pending.len(),
        };
        let all = self.pending.len();
        let rewritten = self.pending[..upto].iter().any(|write| matches!(write, Write::Rewrite(_)));
        self.settle(upto);
        self.forget_life();
        self.left = if upto == all { Left::Kept } else { Left::Missing };
        let first_torn = if rewritten { self.log.len().saturating_sub(1) } else { unsynced };
        if reached < 2 || first_torn >= self.log.len() || rewritten {
            return;
        }
        // Torn: the end is missing, or there is a hole of zeros.
        let (mut bytes, starts) = self.bytes();
        let from = starts[first_torn];
        let length = (bytes.len() - from) as u64;
        if reached == 2 {
            bytes.truncate(from + place.below(length) as usize);
        } else {
            let hole = from + place.below(length) as usize;
            let end = (hole + 1 + how.below(64) as usize).min(bytes.len());
            bytes[hole..end].fill(0);
        }
        self.left = Left::Torn;
        self.read_back(&bytes, read);
    }

    /// A bit of something that had been durable flips.
    pub(crate) fn corrupt(&mut self, decision: Decision, read: impl Read<R>) {
        let (mut bytes, _) = self.bytes();
        if bytes.is_empty() {
            return;
        }
        let bit = decision.below(bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        // Damage to the last record looks like a torn one; the reader tells the rest.
        self.left = Left::Torn;
        self.read_back(&bytes, read);
    }

    /// The log's bytes, and where each record starts.
    fn bytes(&self) -> (Vec<u8>, Vec<usize>) {
        let encode = |written: &Written<R>, synced: usize, bytes: &mut Vec<u8>| {
            wal::encode(&written.record, synced as u64, bytes)
                .expect("records of the bundled machines are plain data of bounded size");
        };
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for written in &self.log {
            encode(written, 0, &mut bytes);
            starts.push(bytes.len());
        }
        // A mark has the same length whatever it says, but may be of what stands behind it.
        bytes.clear();
        for written in &self.log {
            encode(written, starts.get(written.synced as usize).copied().unwrap_or_default(), &mut bytes);
        }
        (bytes, starts)
    }

    fn read_back(&mut self, bytes: &[u8], read: impl Read<R>) {
        match read(bytes) {
            Ok(recovered) => {
                self.log.truncate(recovered.records.len());
                // What comes back is what the bytes say, not what had been written.
                for (written, record) in self.log.iter_mut().zip(recovered.records) {
                    written.record = record;
                }
                if self.left == Left::Torn && recovered.tail == Tail::Clean {
                    self.left = Left::Missing;
                }
            }
            Err(_) => self.left = Left::Damaged,
        }
    }

    /// What a starting node finds: its records, or that the log is damaged. All of it is durable.
    pub(crate) fn start(&mut self, read: impl Read<R>) -> (Left, Option<Vec<R>>) {
        if self.left != Left::Damaged && self.is_flipped() {
            let (mut bytes, _) = self.bytes();
            for bit in &self.flipped {
                if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            let left = std::mem::replace(&mut self.left, Left::Torn);
            self.read_back(&bytes, read);
            if self.left == Left::Damaged {
                // Until the bit is flipped back.
                self.left = left;
                return (Left::Damaged, None);
            }
            // What could not be told from a torn record is cut off.
            self.flipped.clear();
        }
        if !self.is(DiskHarm::SyncLies) {
            self.truth = None;
        }
        let left = std::mem::replace(&mut self.left, Left::Whole);
        if left == Left::Damaged {
            self.left = Left::Damaged;
            return (left, None);
        }
        (left, Some(self.log.iter().map(|written| written.record.clone()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duress_seed::Seed;

    /// Writes at random, with records that tell their number, then loses power or the process at
    /// some moment, and starts again.
    fn crash(seed: u64, power: bool) -> (Left, Vec<u64>, u64, u64) {
        let decide = |what: u64, number: u64| Seed(seed).decide(&[what, number]);
        let mut disk = Disk::<u64>::default();
        let (mut written, mut durable) = (0, 0);
        for step in 0..decide(0, 0).below(40) {
            match decide(1, step).below(6) {
                0..3 => {
                    written += 1;
                    disk.append(written);
                }
                3 => disk.rewrite((1..=written).collect()),
                4 => {
                    disk.sync();
                }
                _ => {
                    disk.synced();
                    durable = disk.log.last().map_or(0, |last| last.record);
                }
            }
        }
        if power {
            disk.tear(decide(2, 0), decide(2, 1), wal::recover)
        } else {
            disk.kill(decide(2, 0))
        }
        let (left, records) = disk.start(wal::recover);
        (left, records.expect("a crash damages nothing that was durable"), durable, written)
    }

    #[test]
    fn a_crash_never_takes_what_was_durable_and_never_makes_anything_up() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..4000 {
            for power in [false, true] {
                let (left, records, durable, written) = crash(seed, power);
                let expected: Vec<u64> = (1..=records.len() as u64).collect();
                assert_eq!(records, expected, "seed {seed}");
                assert!((durable..=written).contains(&(records.len() as u64)), "seed {seed}: {records:?}");
                *seen.entry((power, left.words())).or_insert(0) += 1;
            }
        }
        for left in [Left::Whole, Left::Kept, Left::Missing, Left::Torn] {
            assert!(seen.get(&(true, left.words())).is_some_and(|count| *count > 50), "{seen:?}");
        }
        assert_eq!(seen.get(&(false, Left::Torn.words())), None);
    }

    #[test]
    fn a_flipped_bit_ahead_of_a_durable_mark_is_found_at_the_start() {
        let mut damaged = 0;
        for seed in 0..200 {
            let mut disk = Disk::<u64>::default();
            for record in 0..10 {
                disk.append(record);
                disk.sync();
                disk.synced();
            }
            disk.corrupt(Seed(seed).decide(&[1]), wal::recover);
            match disk.start(wal::recover) {
                (Left::Damaged, None) => damaged += 1,
                // Damage to the last record can't be told from a torn one.
                (_, Some(records)) => assert_eq!(records, (0..9).collect::<Vec<_>>()),
                other => panic!("{other:?}"),
            }
        }
        assert!(damaged > 150, "{damaged} of 200");
    }

    /// A disk with so many records, synced one by one.
    fn with_records(records: u64) -> Disk<u64> {
        let mut disk = Disk::default();
        for record in 0..records {
            disk.append(record);
            disk.sync();
            disk.synced();
        }
        disk
    }

    #[test]
    fn a_power_loss_takes_all_that_was_not_synced_and_nothing_else() {
        let mut disk = with_records(3);
        disk.append(3);
        disk.power_loss();
        assert_eq!(disk.start(wal::recover), (Left::Missing, Some(vec![0, 1, 2])));
        disk.power_loss();
        assert_eq!(disk.start(wal::recover), (Left::Whole, Some(vec![0, 1, 2])));
    }

    #[test]
    fn what_a_lying_sync_covered_is_lost_with_the_power_unless_an_honest_one_follows() {
        let decision = Seed(1).decide(&[]);
        for honest in [false, true] {
            let mut disk = with_records(2);
            disk.harm(DiskHarm::SyncLies, decision);
            disk.append(2);
            disk.sync();
            disk.synced();
            disk.rewrite(vec![7, 8]);
            disk.sync();
            disk.synced();
            // A process that is killed and started again sees it all the same.
            disk.kill(decision);
            assert_eq!(disk.start(wal::recover).1, Some(vec![7, 8]));
            disk.mend(DiskHarm::SyncLies);
            if honest {
                disk.append(9);
                disk.sync();
                disk.synced();
            }
            disk.power_loss();
            let left = if honest { vec![7, 8, 9] } else { vec![0, 1] };
            assert_eq!(disk.start(wal::recover).1, Some(left));
        }
    }

    #[test]
    fn a_flipped_bit_is_found_at_the_start_and_is_gone_when_it_is_mended_or_overwritten() {
        let mut damaged = 0;
        for seed in 0..200 {
            let mut disk = with_records(10);
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[1]));
            match disk.start(wal::recover) {
                (Left::Damaged, None) => {
                    damaged += 1;
                    disk.mend(DiskHarm::BitFlip);
                    assert_eq!(disk.start(wal::recover).1, Some((0..10).collect()));
                }
                // Damage to the last record can't be told from a torn one.
                (_, Some(records)) => assert_eq!(records, (0..9).collect::<Vec<_>>()),
                other => panic!("{other:?}"),
            }
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[2]));
            disk.rewrite(vec![5, 6, 7]);
            disk.sync();
            disk.synced();
            assert_eq!(disk.start(wal::recover).1, Some(vec![5, 6, 7]));
            // What replaced a log in one piece can't be torn, to its last record.
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[3]));
            assert_eq!(disk.start(wal::recover).1, None);
        }
        assert!(damaged > 150, "{damaged} of 200");
    }
}
