//! Which parts of a process's address space are taken.

use std::fs;

use crate::ClockError;

/// One mapping of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) executable: bool,
    /// The path or `[name]`; empty for anonymous memory.
    pub(crate) name: String,
}

pub(crate) fn of(pid: i32) -> Result<Vec<Mapping>, ClockError> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))
        .map_err(|e| ClockError::file("read the memory map", pid, &e))?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.contains('x');
    let name = fields.nth(3).unwrap_or_default().to_string();
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping { start: address(start)?, end: address(end)?, executable, name })
}

/// Free places of `length` bytes within `reach` of `near`, the nearest first. The kernel may
/// still refuse one of them.
pub(crate) fn gaps(maps: &[Mapping], near: u64, length: u64, reach: u64) -> Vec<u64> {
    // Below the stack there must be room for it to grow, so places right after a mapping are
    // better than right before one.
    let mut places = Vec::new();
    for (number, mapping) in maps.iter().enumerate() {
        let next = maps.get(number + 1).map_or(mapping.end + 16 * length, |next| next.start);
        if next.saturating_sub(mapping.end) >= 2 * length && mapping.end < 1 << 47 {
            places.push(mapping.end);
            places.push(mapping.end + (next - mapping.end) / 2 / length * length);
        }
    }
    places.retain(|place| place.abs_diff(near) < reach);
    places.sort_by_key(|place| place.abs_diff(near));
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_gaps_found() {
        let lines = "10000-12000 r-xp 00000000 00:00 0   [vdso]\n20000-21000 rw-p 00000000 00:00 0\nrubbish\n";
        let maps: Vec<Mapping> = lines.lines().filter_map(parse).collect();
        assert_eq!(maps.len(), 2);
        assert!(maps[0].executable && maps[0].name == "[vdso]");
        assert!(!maps[1].executable && maps[1].name.is_empty());
        let gaps = gaps(&maps, 0x10000, 0x1000, 0x20000);
        assert_eq!(gaps[0], 0x12000, "right after the nearest mapping");
        for gap in gaps {
            assert!(maps.iter().all(|m| gap >= m.end || gap + 0x1000 <= m.start), "{gap:x} is taken");
        }
    }
}
