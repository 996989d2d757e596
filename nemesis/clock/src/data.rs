//! The page of data that the stub reads: which time to tell. Its layout is the stub's, in
//! `stub/*.s`; this module is the one place of the arithmetic on our side.

pub use duress_backend::clocks::Clock;

/// The true time by a clock, in nanoseconds.
pub(crate) fn now(clock: Clock) -> i64 {
    let id = match clock {
        Clock::Realtime => nix::time::ClockId::CLOCK_REALTIME,
        Clock::Monotonic => nix::time::ClockId::CLOCK_MONOTONIC,
        Clock::Boottime => nix::time::ClockId::CLOCK_BOOTTIME,
    };
    let now = nix::time::clock_gettime(id).expect("the kernel has this clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}

/// How one clock is told. All times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The true time from which this holds.
    pub(crate) base: i64,
    /// What was told at that time.
    pub(crate) value: i64,
    /// How much faster than true it runs, as a fraction of 2^32: `-1 << 32` stands still.
    pub(crate) rate: i64,
    /// After how long it flips to `other` and back; zero for never.
    pub(crate) period: i64,
    /// What is added in odd periods.
    pub(crate) other: i64,
    /// Whether it is skewed at all.
    pub(crate) active: bool,
}

/// What a rate of 1 (twice as fast) is in [`Setting::rate`].
pub(crate) const ONE: i64 = 1 << 32;

impl Setting {
    /// What is told at a true time. The same as the stub computes.
    pub(crate) fn tell(&self, now: i64) -> i64 {
        if !self.active {
            return now;
        }
        let mut told = self.steady(now);
        if self.period > 0 && (now.wrapping_sub(self.base) / self.period) % 2 != 0 {
            told = told.wrapping_add(self.other);
        }
        told.max(0)
    }

    /// Without the strobe.
    pub(crate) fn steady(&self, now: i64) -> i64 {
        if !self.active {
            return now;
        }
        let d = now.wrapping_sub(self.base);
        let more = ((i128::from(d) * i128::from(self.rate)) >> 32) as i64;
        self.value.wrapping_add(d).wrapping_add(more)
    }
}

/// Bytes of a setting in the page.
const SETTING: usize = 64;
/// Where the first block of settings is, and how far it is to the next.
const BLOCKS: usize = 512;
const BLOCK: usize = 256;
/// How many blocks there are. The stub reads the one that the page names; the others are what a
/// thread may still be reading that was stopped in the middle of the stub, and room for the next.
const COUNT: usize = 14;
/// Where the reads of each clock are counted.
const READS: usize = 32;
/// Where the offset of the block in force is.
const CURRENT: usize = 24;
/// Where what the entries held before is kept: (address, eight bytes) of each.
const SAVED: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"duressSD");
/// Changes whenever the layout does.
const VERSION: u64 = 1;

/// The bytes of a page of data.
#[derive(Clone)]
pub(crate) struct Page(Vec<u8>);

/// One replaced entry: its address, and its bytes of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) address: u64,
    pub(crate) bytes: [u8; 8],
}

impl Page {
    /// Bytes of the page that are used.
    pub(crate) const LENGTH: usize = BLOCKS + BLOCK * COUNT;
    /// Most entries that can be saved.
    pub(crate) const ENTRIES: usize = 4;

    pub(crate) fn new(saved: &[Saved]) -> Page {
        let mut page = Page(vec![0; Page::LENGTH]);
        page.put(0, MAGIC);
        page.put(8, VERSION);
        page.put(16, saved.len() as u64);
        page.put(CURRENT, BLOCKS as u64);
        for (number, one) in saved.iter().enumerate() {
            page.put(SAVED + number * 16, one.address);
            page.put(SAVED + number * 16 + 8, u64::from_le_bytes(one.bytes));
        }
        page
    }

    /// A page that was read from a process, if it is one of ours.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Page> {
        let page = Page(bytes);
        let fits = page.0.len() == Page::LENGTH
            && page.get(0) == MAGIC
            && page.get(8) == VERSION
            && page.get(16) as usize <= Page::ENTRIES
            && (0..COUNT).any(|number| BLOCKS + number * BLOCK == page.get(CURRENT) as usize);
        fits.then_some(page)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn saved(&self) -> Vec<Saved> {
        let one = |number: usize| Saved {
            address: self.get(SAVED + number * 16),
            bytes: self.get(SAVED + number * 16 + 8).to_le_bytes(),
        };
        (0..self.get(16) as usize).map(one).collect()
    }

    pub(crate) fn reads(&self, clock: Clock) -> u64 {
        self.get(READS + clock as usize * 8)
    }

    pub(crate) fn settings(&self) -> [Setting; 3] {
        let block = self.get(CURRENT) as usize;
        Clock::ALL.map(|clock| {
            let at = block + clock as usize * SETTING;
            Setting {
                base: self.get(at) as i64,
                value: self.get(at + 8) as i64,
                rate: self.get(at + 16) as i64,
                period: self.get(at + 24) as i64,
                other: self.get(at + 32) as i64,
                active: self.get(at + 40) != 0,
            }
        })
    }

    /// Where a block is that is neither in force nor `in_use` (asked of places in the page), and
    /// its bytes with these settings. Writing them, and then the place at [`Page::CURRENT`], puts
    /// the settings in force.
    pub(crate) fn next_block(
        &self,
        settings: &[Setting; 3],
        in_use: impl Fn(std::ops::Range<usize>) -> bool,
    ) -> Option<(usize, Vec<u8>)> {
        let current = (self.get(CURRENT) as usize - BLOCKS) / BLOCK;
        // The one longest out of force comes first.
        let mut places = (1..COUNT).map(|after| BLOCKS + (current + after) % COUNT * BLOCK);
        let at = places.find(|place| !in_use(*place..place + BLOCK))?;
        let mut block = Page(vec![0; SETTING * 3]);
        for (number, setting) in settings.iter().enumerate() {
            let words =
                [setting.base, setting.value, setting.rate, setting.period, setting.other, i64::from(setting.active)];
            for (word, value) in words.into_iter().enumerate() {
                block.put(number * SETTING + word * 8, value as u64);
            }
        }
        Some((at, block.0))
    }

    /// Where the offset of the block in force is.
    pub(crate) const CURRENT: usize = CURRENT;

    fn get(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn put(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}
