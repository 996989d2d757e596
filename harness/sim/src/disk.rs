//! One node's disk: its log, what a crash leaves of it, and what is wrong with it meanwhile.
//!
//! Records are kept as they are and turned into bytes only when a crash tears them. What is then
//! left is read back by the machine ([`Logs::read_log`]), by the same code that reads a real log.

use std::time::Duration;

use duress_fault::DiskHarm;
use duress_machine::wal::Tail;
use duress_seed::Decision;

use crate::fleet::{Held, Logs, Store};

/// A record, and how many records of the log are durable wherever it is found: those that were when
/// it was written, or all that replaced an earlier log together with it.
#[derive(Debug)]
struct Written {
    record: Held,
    synced: u32,
}

#[derive(Debug)]
enum Write {
    Append(Written),
    Rewrite(Vec<Held>),
}

/// A log on a disk. Writes become durable in groups: while a sync is under way, what is written
/// waits for the next one, as in the real node's disk thread.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    log: Vec<Written>,
    pending: Vec<Write>,
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
    truth: Option<Vec<Written>>,
    /// Bits of the log's bytes that are flipped, by their places.
    flipped: Vec<u64>,
    /// What the last crash left, until the next start finds out.
    left: Left,
}

/// What a start finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing was being written.
    #[default]
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

impl Written {
    fn copy(&self, logs: &mut (impl Store + ?Sized)) -> Written {
        Written { record: logs.copy(&self.record), synced: self.synced }
    }
}

impl Disk {
    /// A new disk, in old memory. The records are gone already.
    pub(crate) fn clear(&mut self) {
        let mut log = std::mem::take(&mut self.log);
        let mut pending = std::mem::take(&mut self.pending);
        log.clear();
        pending.clear();
        *self = Disk { log, pending, ..Disk::default() };
    }

    pub(crate) fn append(&mut self, record: Held) {
        let synced =
            if self.pending.iter().any(|write| matches!(write, Write::Rewrite(_))) { 0 } else { self.log.len() as u32 };
        self.pending.push(Write::Append(Written { record, synced }));
    }

    pub(crate) fn rewrite(&mut self, records: Vec<Held>) {
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
    pub(crate) fn harm(&mut self, harm: DiskHarm, decision: Decision, logs: &dyn Logs) {
        if harm == DiskHarm::BitFlip {
            let bits = self.bytes(logs).0.len() as u64 * 8;
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
    pub(crate) fn synced(&mut self, logs: &mut dyn Logs) -> Option<u64> {
        if !self.is(DiskHarm::SyncLies) {
            self.forget_truth(logs);
        } else if self.truth.is_none() {
            self.truth = Some(self.log.iter().map(|written| written.copy(logs)).collect());
        }
        if let Some(through) = self.syncing.take() {
            let count = (through - self.durable) as usize;
            self.settle(count, logs);
            self.durable = through;
        }
        self.wanted.take()?;
        self.sync()
    }

    /// The first `count` pending writes become part of the log.
    fn settle(&mut self, count: usize, logs: &mut dyn Logs) {
        for write in self.pending.drain(..count) {
            match write {
                Write::Append(written) => self.log.push(written),
                Write::Rewrite(records) => {
                    self.log.drain(..).for_each(|written| logs.free(written.record));
                    self.flipped.clear();
                    let synced = records.len() as u32;
                    self.log.extend(records.into_iter().map(|record| Written { record, synced }));
                }
            }
        }
    }

    fn forget_life(&mut self, logs: &mut dyn Logs) {
        for write in self.pending.drain(..) {
            match write {
                Write::Append(written) => logs.free(written.record),
                Write::Rewrite(records) => records.into_iter().for_each(|record| logs.free(record)),
            }
        }
        self.durable = 0;
        self.syncing = None;
        self.wanted = None;
    }

    fn forget_truth(&mut self, logs: &mut dyn Logs) {
        self.truth.take().into_iter().flatten().for_each(|written| logs.free(written.record));
    }

    /// The process was killed. Some of what it was writing had reached the operating system, and
    /// stays.
    pub(crate) fn kill(&mut self, decision: Decision, logs: &mut dyn Logs) {
        let pending = self.pending.len();
        let kept = decision.below(pending as u64 + 1) as usize;
        self.left = match pending {
            0 => Left::Whole,
            _ if kept == pending => Left::Kept,
            _ => Left::Missing,
        };
        self.settle(kept, logs);
        self.forget_life(logs);
    }

    /// The power failed. What was not synced is lost.
    pub(crate) fn power_loss(&mut self, logs: &mut dyn Logs) {
        let lied = self.truth.take();
        if self.left != Left::Damaged && (lied.is_some() || !self.pending.is_empty()) {
            self.left = Left::Missing;
        }
        if let Some(truth) = lied {
            // A bit behind its end was flipped in what had never been there.
            let lies = std::mem::replace(&mut self.log, truth);
            lies.into_iter().for_each(|written| logs.free(written.record));
            let bits = self.bytes(logs).0.len() as u64 * 8;
            self.flipped.retain(|bit| *bit < bits);
        }
        self.forget_life(logs);
    }

    /// The power failed. What was not synced is lost, or has reached the disk in part, in any
    /// order.
    pub(crate) fn tear(&mut self, how: Decision, place: Decision, logs: &mut dyn Logs) {
        if self.truth.is_some() {
            return self.power_loss(logs);
        }
        if self.pending.is_empty() {
            self.left = Left::Whole;
            return self.forget_life(logs);
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
        self.settle(upto, logs);
        self.forget_life(logs);
        self.left = if upto == all { Left::Kept } else { Left::Missing };
        let first_torn = if rewritten { self.log.len().saturating_sub(1) } else { unsynced };
        if reached < 2 || first_torn >= self.log.len() || rewritten {
            return;
        }
        // Torn: the end is missing, or there is a hole of zeros.
        let (mut bytes, starts) = self.bytes(logs);
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
        self.read_back(&bytes, logs);
    }

    /// A bit of something that had been durable flips.
    pub(crate) fn corrupt(&mut self, decision: Decision, logs: &mut dyn Logs) {
        let (mut bytes, _) = self.bytes(logs);
        if bytes.is_empty() {
            return;
        }
        let bit = decision.below(bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        // Damage to the last record looks like a torn one; the reader tells the rest.
        self.left = Left::Torn;
        self.read_back(&bytes, logs);
    }

    /// The log's bytes, and where each record starts.
    fn bytes(&self, logs: &dyn Logs) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for written in &self.log {
            logs.encode(&written.record, 0, &mut bytes);
            starts.push(bytes.len());
        }
        // A mark has the same length whatever it says, but may be of what stands behind it.
        bytes.clear();
        for written in &self.log {
            let synced = starts.get(written.synced as usize).copied().unwrap_or_default();
            logs.encode(&written.record, synced as u64, &mut bytes);
        }
        (bytes, starts)
    }

    fn read_back(&mut self, bytes: &[u8], logs: &mut dyn Logs) {
        match logs.read_log(bytes) {
            Ok(recovered) => {
                let left = recovered.records.len().min(self.log.len());
                self.log.drain(left..).for_each(|written| logs.free(written.record));
                // What comes back is what the bytes say, not what had been written.
                for (at, record) in recovered.records.into_iter().enumerate() {
                    logs.free(match self.log.get_mut(at) {
                        Some(written) => std::mem::replace(&mut written.record, record),
                        None => record,
                    });
                }
                if self.left == Left::Torn && recovered.tail == Tail::Clean {
                    self.left = Left::Missing;
                }
            }
            Err(_) => self.left = Left::Damaged,
        }
    }

    /// What a starting node finds: unless the log is damaged, its [records](Disk::records), and all
    /// of them are durable.
    pub(crate) fn start(&mut self, logs: &mut dyn Logs) -> Left {
        if self.left != Left::Damaged && self.is_flipped() {
            let (mut bytes, _) = self.bytes(logs);
            for bit in &self.flipped {
                if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            let left = std::mem::replace(&mut self.left, Left::Torn);
            self.read_back(&bytes, logs);
            if self.left == Left::Damaged {
                // Until the bit is flipped back.
                self.left = left;
                return Left::Damaged;
            }
            // What could not be told from a torn record is cut off.
            self.flipped.clear();
        }
        if !self.is(DiskHarm::SyncLies) {
            self.forget_truth(logs);
        }
        if self.left == Left::Damaged {
            return Left::Damaged;
        }
        std::mem::replace(&mut self.left, Left::Whole)
    }

    /// The log's records, oldest first.
    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = &Held> {
        self.log.iter().map(|written| &written.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use duress_machine::wal::{self, Damage, Recovered};
    use duress_seed::Seed;

    /// Records that are numbers.
    #[derive(Default)]
    struct Numbers {
        kept: BTreeMap<u32, u64>,
        next: u32,
    }

    impl Numbers {
        fn hold(&mut self, number: u64) -> Held {
            self.next += 1;
            self.kept.insert(self.next, number);
            Held(self.next)
        }

        fn all(&mut self, numbers: impl IntoIterator<Item = u64>) -> Vec<Held> {
            numbers.into_iter().map(|number| self.hold(number)).collect()
        }
    }

    impl Store for Numbers {
        fn copy(&mut self, what: &Held) -> Held {
            self.hold(self.kept[&what.0])
        }

        fn free(&mut self, what: Held) {
            self.kept.remove(&what.0).expect("it is freed once");
        }

        fn size(&self, _: &Held) -> usize {
            8
        }

        fn show(&self, what: &Held) -> &dyn Debug {
            &self.kept[&what.0]
        }
    }

    impl Logs for Numbers {
        fn encode(&self, record: &Held, synced: u64, bytes: &mut Vec<u8>) {
            wal::encode(&self.kept[&record.0], synced, bytes).expect("numbers can be encoded");
        }

        fn read_log(&mut self, bytes: &[u8]) -> Result<Recovered<Held>, Damage> {
            let Recovered { records, length, tail } = wal::recover(bytes)?;
            Ok(Recovered { records: self.all(records), length, tail })
        }
    }

    /// What a starting node finds: its records, unless the log is damaged. Nothing else is kept.
    fn start(disk: &mut Disk, logs: &mut Numbers) -> (Left, Option<Vec<u64>>) {
        let left = disk.start(logs);
        let truth = disk.truth.as_ref().map_or(0, Vec::len);
        assert_eq!(logs.kept.len(), disk.log.len() + truth, "what is not needed is freed");
        (left, (left != Left::Damaged).then(|| disk.records().map(|held| logs.kept[&held.0]).collect()))
    }

    fn sync(disk: &mut Disk, logs: &mut Numbers) {
        disk.sync();
        disk.synced(logs);
    }

    /// Writes at random, with records that tell their number, then loses power or the process at
    /// some moment, and starts again.
    fn crash(seed: u64, power: bool) -> (Left, Vec<u64>, u64, u64) {
        let decide = |what: u64, number: u64| Seed(seed).decide(&[what, number]);
        let (mut disk, mut logs) = (Disk::default(), Numbers::default());
        let (mut written, mut durable) = (0, 0);
        for step in 0..decide(0, 0).below(40) {
            match decide(1, step).below(6) {
                0..3 => {
                    written += 1;
                    disk.append(logs.hold(written));
                }
                3 => disk.rewrite(logs.all(1..=written)),
                4 => {
                    disk.sync();
                }
                _ => {
                    disk.synced(&mut logs);
                    durable = disk.records().last().map_or(0, |last| logs.kept[&last.0]);
                }
            }
        }
        if power {
            disk.tear(decide(2, 0), decide(2, 1), &mut logs)
        } else {
            disk.kill(decide(2, 0), &mut logs)
        }
        let (left, records) = start(&mut disk, &mut logs);
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
            let (mut disk, mut logs) = with_records(10);
            disk.corrupt(Seed(seed).decide(&[1]), &mut logs);
            match start(&mut disk, &mut logs) {
                (Left::Damaged, None) => damaged += 1,
                // Damage to the last record can't be told from a torn one.
                (_, Some(records)) => assert_eq!(records, (0..9).collect::<Vec<_>>()),
                other => panic!("{other:?}"),
            }
        }
        assert!(damaged > 150, "{damaged} of 200");
    }

    /// A disk with so many records, synced one by one.
    fn with_records(records: u64) -> (Disk, Numbers) {
        let (mut disk, mut logs) = (Disk::default(), Numbers::default());
        for record in 0..records {
            disk.append(logs.hold(record));
            sync(&mut disk, &mut logs);
        }
        (disk, logs)
    }

    #[test]
    fn a_power_loss_takes_all_that_was_not_synced_and_nothing_else() {
        let (mut disk, mut logs) = with_records(3);
        disk.append(logs.hold(3));
        disk.power_loss(&mut logs);
        assert_eq!(start(&mut disk, &mut logs), (Left::Missing, Some(vec![0, 1, 2])));
        disk.power_loss(&mut logs);
        assert_eq!(start(&mut disk, &mut logs), (Left::Whole, Some(vec![0, 1, 2])));
    }

    #[test]
    fn what_a_lying_sync_covered_is_lost_with_the_power_unless_an_honest_one_follows() {
        let decision = Seed(1).decide(&[]);
        for honest in [false, true] {
            let (mut disk, mut logs) = with_records(2);
            disk.harm(DiskHarm::SyncLies, decision, &logs);
            disk.append(logs.hold(2));
            sync(&mut disk, &mut logs);
            disk.rewrite(logs.all([7, 8]));
            sync(&mut disk, &mut logs);
            // A process that is killed and started again sees it all the same.
            disk.kill(decision, &mut logs);
            assert_eq!(start(&mut disk, &mut logs).1, Some(vec![7, 8]));
            disk.mend(DiskHarm::SyncLies);
            if honest {
                disk.append(logs.hold(9));
                sync(&mut disk, &mut logs);
            }
            disk.power_loss(&mut logs);
            let left = if honest { vec![7, 8, 9] } else { vec![0, 1] };
            assert_eq!(start(&mut disk, &mut logs).1, Some(left));
        }
    }

    #[test]
    fn a_flipped_bit_is_found_at_the_start_and_is_gone_when_it_is_mended_or_overwritten() {
        let mut damaged = 0;
        for seed in 0..200 {
            let (mut disk, mut logs) = with_records(10);
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[1]), &logs);
            match start(&mut disk, &mut logs) {
                (Left::Damaged, None) => {
                    damaged += 1;
                    disk.mend(DiskHarm::BitFlip);
                    assert_eq!(start(&mut disk, &mut logs).1, Some((0..10).collect()));
                }
                // Damage to the last record can't be told from a torn one.
                (_, Some(records)) => assert_eq!(records, (0..9).collect::<Vec<_>>()),
                other => panic!("{other:?}"),
            }
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[2]), &logs);
            disk.rewrite(logs.all([5, 6, 7]));
            sync(&mut disk, &mut logs);
            assert_eq!(start(&mut disk, &mut logs).1, Some(vec![5, 6, 7]));
            // What replaced a log in one piece can't be torn, to its last record.
            disk.harm(DiskHarm::BitFlip, Seed(seed).decide(&[3]), &logs);
            assert_eq!(start(&mut disk, &mut logs).1, None);
        }
        assert!(damaged > 150, "{damaged} of 200");
    }
}
