//! Skewing, changing, healing and reading the clocks of a process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

pub use duress_backend::clocks::{Change, Reading, State};

use crate::data::{self, Clock, ONE, Page, Saved, Setting};
use crate::maps::{self, Mapping};
use crate::tracee::{Stopped, system_call_instruction};
use crate::{ClockError, stub, vdso};

/// What a process is told whose clock functions are replaced or not, by the page that they read.
fn state(replaced: bool, page: Option<&Page>) -> State {
    let settings = page.filter(|_| replaced).map(Page::settings).unwrap_or_default();
    let reading = |clock: Clock| {
        let setting = settings[clock as usize];
        let now = data::now(clock);
        Reading {
            clock,
            skewed: setting.active,
            at_ns: now,
            ahead_ns: setting.tell(now) - now,
            rate_ppm: if setting.active { setting.rate as f64 / ONE as f64 * 1e6 } else { 0.0 },
            reads: page.map_or(0, |page| page.reads(clock)),
        }
    };
    State { replaced, clocks: Clock::ALL.map(reading) }
}

/// No offset is larger: 30 years.
const MAX_OFFSET: i64 = 30 * 365 * 86_400 * 1_000_000_000;
/// No clock runs faster than a thousand times true.
const MAX_PPM: f64 = 1e9;

/// Changes what a process is told. Threads that are about to enter or leave a clock function are
/// let out of it first; all stand still for well under a millisecond.
///
/// # Errors
/// See [`ClockError`]. An error before the first byte was written leaves the process as it was.
pub fn skew(pid: i32, changes: &[(Clock, Change)]) -> Result<State, ClockError> {
    for (clock, change) in changes {
        validate(*clock, change)?;
    }
    let mut stopped = Stopped::stop(pid)?;
    let place = Place::find(pid, |address, length| stopped.read(address, length))?;
    let vdso = place.vdso.clone();
    let entries = place.entries;
    // A thread in the midst of a true function would tell the true time after others were told less.
    let ascending = !place.replaced && changes.iter().any(|(clock, _)| clock.ascends());
    stopped.clear(&|ip| {
        let in_jump = entries.iter().flatten().any(|entry| ip > *entry && ip < entry + stub::JUMP);
        in_jump || (ascending && vdso.contains(ip))
    })?;
    let pages = match place.pages {
        Some(pages) => pages,
        None if changes.iter().all(|(_, change)| *change == Change::Reset) => return Ok(state(false, None)),
        None => map(&mut stopped, pid, &place)?,
    };
    let mut page = pages
        .data(|address, length| stopped.read(address, length))
        .ok_or_else(|| ClockError::Vdso { pid, reason: "it was patched by another version of this program".into() })?;
    let mut settings = if place.replaced { page.settings() } else { Default::default() };
    for (clock, change) in changes {
        settings[*clock as usize] = changed(settings[*clock as usize], *clock, *change);
    }
    // Threads that were stopped in the middle of the stub go on with the settings they have begun with.
    let reading = stopped.pointers(|ip| ip.wrapping_sub(pages.code) < stub::PAGE);
    let in_use = |place: std::ops::Range<usize>| {
        reading.iter().any(|pointer| place.contains(&(pointer.wrapping_sub(pages.data) as usize)))
    };
    let (at, block) = page.next_block(&settings, in_use).ok_or(ClockError::Busy(pid))?;
    stopped.write(pages.data + at as u64, &block)?;
    stopped.write(pages.data + Page::CURRENT as u64, &(at as u64).to_le_bytes())?;
    let wanted = settings.iter().any(|setting| setting.active);
    for (function, saved) in page.saved().iter().enumerate() {
        if !vdso.contains(saved.address) {
            return Err(ClockError::Vdso { pid, reason: "it is not where it was".into() });
        }
        let entry = entries.iter().position(|entry| *entry == Some(saved.address)).unwrap_or(function);
        let to = pages.code + stub::entries()[entry];
        let bytes = if wanted { stub::jump(saved.address, to, saved.bytes) } else { saved.bytes };
        stopped.write(saved.address, &bytes)?;
    }
    if let Some(fresh) = pages.data(|address, length| stopped.read(address, length)) {
        page = fresh;
    }
    Ok(state(wanted, Some(&page)))
}

/// What a process is told at the moment. It isn't stopped for that.
///
/// # Errors
/// See [`ClockError`].
pub fn read(pid: i32) -> Result<State, ClockError> {
    let memory = File::open(format!("/proc/{pid}/mem")).map_err(|e| ClockError::file("open the memory", pid, &e))?;
    let read = |address: u64, length: usize| {
        let mut bytes = vec![0; length];
        memory.read_exact_at(&mut bytes, address).map_err(|e| ClockError::io("read the memory", pid, &e))?;
        Ok(bytes)
    };
    let place = Place::find(pid, read)?;
    let page = place.pages.and_then(|pages| pages.data(read));
    Ok(state(place.replaced, page.as_ref()))
}

/// A process and all that descend from it, in the order of their ids. Children that outlived
/// their parent are no longer known as its.
pub fn family(pid: i32) -> Vec<i32> {
    let parent = |of: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{of}/stat")).ok()?;
        stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|of| Some((of, parent(of)?)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        family.extend(
            all.iter()
                .filter(|(of, its)| *its == parent && !family.contains(of))
                .map(|(of, _)| *of)
                .collect::<Vec<_>>(),
        );
    }
    family.sort_unstable();
    family
}

fn validate(clock: Clock, change: &Change) -> Result<(), ClockError> {
    let ascends = clock.ascends();
    match *change {
        Change::Jump(by) if ascends && by < 0 => Err(ClockError::Backwards(clock, "a jump back")),
        Change::Jump(by) if by.abs_diff(0) > MAX_OFFSET as u64 => {
            Err(ClockError::Range("a jump may be 30 years at most".into()))
        }
        Change::Rate(ppm) if !(-1e6..=MAX_PPM).contains(&ppm) => {
            Err(ClockError::Range(format!("a rate of {ppm} ppm: it must be between -1000000 and {MAX_PPM}")))
        }
        Change::Strobe { .. } if ascends => Err(ClockError::Backwards(clock, "a strobe")),
        Change::Strobe { by, every }
            if every.is_zero() || every.as_secs() > 86_400 || by.abs_diff(0) > MAX_OFFSET as u64 =>
        {
            Err(ClockError::Range("a strobe's period must be between 1 ns and a day".into()))
        }
        _ => Ok(()),
    }
}

fn changed(setting: Setting, clock: Clock, change: Change) -> Setting {
    let now = data::now(clock);
    let told = setting.steady(now);
    let on = if setting.active { setting } else { Setting::default() };
    let since_now = Setting { base: now, value: told, active: true, ..on };
    match change {
        Change::Jump(by) => Setting { value: told.saturating_add(by), ..since_now },
        Change::Rate(ppm) => Setting { rate: (ppm * (ONE as f64 / 1e6)).round() as i64, ..since_now },
        Change::Strobe { by, every } => Setting { period: every.as_nanos() as i64, other: by, ..since_now },
        Change::Freeze => Setting { rate: -ONE, ..since_now },
        Change::Reset if clock.ascends() && told > now => Setting { rate: 0, ..since_now },
        Change::Reset => Setting::default(),
    }
}

/// Our two pages in a process.
#[derive(Clone, Copy, Debug)]
struct Pages {
    code: u64,
    data: u64,
}

impl Pages {
    fn at(code: u64) -> Pages {
        Pages { code, data: code + stub::PAGE }
    }

    fn data(self, read: impl Fn(u64, usize) -> Result<Vec<u8>, ClockError>) -> Option<Page> {
        Page::from_bytes(read(self.data, Page::LENGTH).ok()?)
    }
}

/// A process's vDSO and what we have done to it.
struct Place {
    maps: Vec<Mapping>,
    vdso: Range,
    image: Vec<u8>,
    /// The addresses of the functions.
    entries: [Option<u64>; 3],
    /// Ours, if they are there already.
    pages: Option<Pages>,
    /// Whether the functions are replaced.
    replaced: bool,
}

#[derive(Clone, Debug)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

impl Place {
    fn find(pid: i32, read: impl Fn(u64, usize) -> Result<Vec<u8>, ClockError>) -> Result<Place, ClockError> {
        let maps = maps::of(pid)?;
        let wrong = |reason: String| ClockError::Vdso { pid, reason };
        let vdso = maps.iter().find(|m| m.name == "[vdso]").ok_or_else(|| wrong("there is none".into()))?;
        let vdso = Range { start: vdso.start, end: vdso.end };
        let length = (vdso.end - vdso.start).min(1 << 20) as usize;
        let image = read(vdso.start, length)?;
        let offsets = vdso::functions(&image).map_err(wrong)?;
        let entries = offsets.map(|offset| offset.map(|offset| vdso.start + offset));
        let ours = |page: u64| read(page, stub::MAGIC.len()).is_ok_and(|bytes| bytes == stub::MAGIC);
        let first = offsets[0].and_then(|at| image.get(at as usize..at as usize + 8));
        let jumps_to = first
            .zip(entries[0])
            .and_then(|(bytes, from)| stub::target(from, bytes.try_into().ok()?))
            .map(|to| to & !(stub::PAGE - 1))
            .filter(|page| ours(*page));
        let left_from_before = || {
            let candidates = maps.iter().filter(|m| m.executable && m.name.is_empty());
            candidates.map(|m| m.start).find(|start| ours(*start))
        };
        let pages = jumps_to.or_else(left_from_before).map(Pages::at);
        Ok(Place { vdso, image, entries, pages, replaced: jumps_to.is_some(), maps })
    }
}

/// Maps our pages into the process and fills them; nothing jumps to them yet.
fn map(stopped: &mut Stopped, pid: i32, place: &Place) -> Result<Pages, ClockError> {
    let wrong = |reason: &str| ClockError::Vdso { pid, reason: reason.into() };
    let call = system_call_instruction(&place.image).ok_or_else(|| wrong("it makes no system calls"))?;
    let call = place.vdso.start + call as u64;
    let granule = page_size().max(stub::PAGE);
    let mut refused = 0;
    for code in maps::gaps(&place.maps, place.vdso.start, 2 * granule, stub::REACH).into_iter().take(64) {
        // One mapping, writable and not executable for now: few things forbid that.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let got = stopped.system_call(call, libc::SYS_mmap, [code, 2 * granule, access, flags as u64, u64::MAX, 0])?;
        if got != code as i64 {
            if got > 0 {
                // Kernels before 4.17 take the address for a hint.
                stopped.system_call(call, libc::SYS_munmap, [got as u64, 2 * granule, 0, 0, 0, 0])?;
            }
            refused = got;
            continue;
        }
        let pages = Pages::at(code);
        let mut saved = Vec::new();
        for entry in place.entries.iter().flatten() {
            let bytes = stopped.read(*entry, 8)?;
            saved.push(Saved { address: *entry, bytes: bytes.try_into().map_err(|_| wrong("it ends too early"))? });
        }
        stopped.write(pages.code, stub::code())?;
        stopped.write(pages.data, Page::new(&saved).bytes())?;
        let access = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let protected = if granule == stub::PAGE { stub::PAGE } else { 0 };
        let got = match protected {
            // Larger pages hold code and data at once.
            0 => {
                let access = access | libc::PROT_WRITE as u64;
                stopped.system_call(call, libc::SYS_mprotect, [code, granule, access, 0, 0, 0])?
            }
            length => stopped.system_call(call, libc::SYS_mprotect, [code, length, access, 0, 0, 0])?,
        };
        if got < 0 {
            stopped.system_call(call, libc::SYS_munmap, [code, 2 * granule, 0, 0, 0, 0])?;
            return Err(ClockError::kernel("make memory executable", pid, nix::errno::Errno::from_raw(-got as i32)));
        }
        return Ok(pages);
    }
    match refused {
        0 => Err(wrong("there is no free memory near it")),
        got => Err(ClockError::kernel("map memory", pid, nix::errno::Errno::from_raw(-got as i32))),
    }
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |size| size as u64)
}
