//! What is in one file: what is durable of it, and what was written over that since.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use duress_seed::Seed;

use crate::overlay::Overlay;

/// Disks write this many bytes whole or not at all.
pub(crate) const SECTOR: u64 = 512;

/// No file may be longer, in bytes.
pub(crate) const MAX_LENGTH: u64 = 1 << 40;

/// The content of a file. What is durable is in an object, a file of the backing directory that
/// the callers hand in.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The length that programs see.
    size: u64,
    /// The length of what is durable.
    durable: u64,
    /// So much of what is durable has not been cut off since.
    base: u64,
    /// Written, not synced.
    dirty: Overlay,
    /// A sync of it failed. Programs still see it, but no later sync tries again: Linux takes such
    /// pages for clean.
    stale: Overlay,
}

impl Content {
    /// A file that is durable as it is.
    pub(crate) fn durable(length: u64) -> Content {
        Content { size: length, durable: length, base: length, ..Content::default() }
    }

    /// The length that programs see.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The length of what is durable.
    pub(crate) fn durable_size(&self) -> u64 {
        self.durable
    }

    /// How many bytes are not durable.
    pub(crate) fn unsynced(&self) -> u64 {
        self.dirty.bytes() + self.stale.bytes()
    }

    /// Whether a sync would change what is durable.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.bytes() > 0 || self.size != self.durable || self.base < self.durable
    }

    /// Up to `length` bytes at `offset`, as programs see them.
    pub(crate) fn read(&self, object: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(offset));
        let mut out = vec![0; length as usize];
        let visible = self.base.saturating_sub(offset).min(length);
        object.read_exact_at(&mut out[..visible as usize], offset)?;
        self.stale.read(offset, &mut out);
        self.dirty.read(offset, &mut out);
        Ok(out)
    }

    /// Writes at `offset`, which with the data's length is within [`MAX_LENGTH`].
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.dirty.write(offset, data);
        self.stale.cut(offset, end);
        if !data.is_empty() {
            self.size = self.size.max(end);
        }
    }

    /// Cuts the file off, or fills it up with zeros.
    pub(crate) fn truncate(&mut self, size: u64) {
        self.dirty.cut(size, u64::MAX);
        self.stale.cut(size, u64::MAX);
        self.base = self.base.min(size);
        self.size = size;
    }

    /// Makes it durable, but for what an earlier sync failed to.
    pub(crate) fn sync(&mut self, object: &File) -> io::Result<()> {
        if self.base < self.durable {
            object.set_len(self.base)?;
            self.durable = self.base;
        }
        for (offset, data) in self.dirty.ranges() {
            object.write_all_at(data, offset)?;
        }
        let reached = self.dirty.ranges().last().map_or(0, |(offset, data)| offset + data.len() as u64);
        if reached.max(self.durable) < self.size {
            object.set_len(self.size)?;
        }
        self.dirty = Overlay::default();
        (self.durable, self.base) = (self.size, self.size);
        Ok(())
    }

    /// Makes all of it durable.
    pub(crate) fn write_back(&mut self, object: &File) -> io::Result<()> {
        let mut all = std::mem::take(&mut self.stale);
        for (offset, data) in self.dirty.ranges() {
            all.write(offset, data);
        }
        self.dirty = all;
        self.sync(object)
    }

    /// A sync fails: what it should have made durable stays as it is, and is not tried again.
    pub(crate) fn fail_sync(&mut self) {
        for (offset, data) in std::mem::take(&mut self.dirty).ranges() {
            self.stale.write(offset, data);
        }
    }

    /// Forgets what is not durable. Returns how many bytes are lost.
    pub(crate) fn forget(&mut self) -> u64 {
        let lost = self.unsynced();
        *self = Content::durable(self.durable);
        lost
    }

    /// Forgets what is not durable but some sectors of a write, at least one if it has more than
    /// one, and never all of those. Returns how many bytes are lost and how many of the write are
    /// not.
    pub(crate) fn tear(&mut self, object: &File, offset: u64, length: u64, seed: Seed) -> io::Result<(u64, u64)> {
        let data = self.read(object, offset, length)?;
        let lost = self.forget();
        if data.is_empty() {
            return Ok((lost, 0));
        }
        let end = offset + data.len() as u64;
        let (first, count) = (offset / SECTOR, (end - 1) / SECTOR - offset / SECTOR + 1);
        let chosen = |sector: u64| seed.decide(&[sector]).chance(0.5);
        // One of several is always kept, and the one behind it always lost.
        let sure = seed.derive("kept").decide(&[]).below(count);
        let kept = |sector: u64| match count {
            1 => chosen(0),
            _ if sector == sure => true,
            _ if sector == (sure + 1) % count => false,
            _ => chosen(sector),
        };
        let mut survived = 0;
        for sector in (0..count).filter(|sector| kept(*sector)) {
            let from = ((first + sector) * SECTOR).max(offset);
            let to = ((first + sector + 1) * SECTOR).min(end);
            object.write_all_at(&data[(from - offset) as usize..(to - offset) as usize], from)?;
            survived += to - from;
            self.durable = self.durable.max(to);
        }
        *self = Content::durable(self.durable);
        Ok((lost.saturating_sub(survived), survived))
    }

    /// Whether a sync would replace the durable byte at this place, or cut it off.
    pub(crate) fn replaces(&self, at: u64) -> bool {
        at >= self.base || self.dirty.covers(at)
    }

    /// Whether the byte at this place that programs see is the durable one.
    pub(crate) fn shows(&self, at: u64) -> bool {
        at < self.base && !self.dirty.covers(at) && !self.stale.covers(at)
    }
}
