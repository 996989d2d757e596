//! The functions in a vDSO: an ELF image in a process's memory, read with suspicion.

/// The functions to replace, by their names on this architecture, in the order of
/// [`crate::stub::entries`]. On x86-64 each has an alias without the prefix, at the same address.
#[cfg(target_arch = "x86_64")]
pub(crate) const FUNCTIONS: [&str; 3] = ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time"];
/// As on x86-64; there is no `time` here.
#[cfg(target_arch = "aarch64")]
pub(crate) const FUNCTIONS: [&str; 3] = ["__kernel_clock_gettime", "__kernel_gettimeofday", ""];

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: usize = 24;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const STRING_TABLE: u64 = 5;
const SYMBOL_TABLE: u64 = 6;
const HASH: u64 = 4;
const GNU_HASH: u64 = 0x6fff_fef5;
/// More symbols than any vDSO has.
const MAX_SYMBOLS: usize = 256;

/// The offsets of [`FUNCTIONS`] in the image; `None` for one that it doesn't have.
pub(crate) fn functions(image: &[u8]) -> Result<[Option<u64>; 3], String> {
    if image.get(..5) != Some(b"\x7fELF\x02") || image.len() < HEADER {
        return Err("it is no 64-bit ELF image".into());
    }
    let (mut load, mut dynamic) = (None, None);
    let table = word(image, 32)? as usize;
    let count = half(image, 56)? as usize;
    for number in 0..count.min(64) {
        let at = table.checked_add(number * PROGRAM_HEADER).ok_or("its program headers are out of place")?;
        let kind = half(image, at)?;
        let (offset, address) = (word(image, at + 8)?, word(image, at + 16)?);
        if kind == LOAD && load.is_none() {
            load = Some(address.wrapping_sub(offset));
        } else if kind == DYNAMIC {
            dynamic = Some(offset as usize);
        }
    }
    let (Some(load), Some(dynamic)) = (load, dynamic) else { return Err("it has no dynamic section".into()) };

    let (mut strings, mut symbols, mut hash, mut gnu_hash) = (None, None, None, None);
    for entry in 0..128 {
        let at = dynamic.checked_add(entry * 16).ok_or("its dynamic section is out of place")?;
        let (tag, value) = (word(image, at)?, word(image, at + 8)?.wrapping_sub(load) as usize);
        match tag {
            0 => break,
            STRING_TABLE => strings = Some(value),
            SYMBOL_TABLE => symbols = Some(value),
            HASH => hash = Some(value),
            GNU_HASH => gnu_hash = Some(value),
            _ => {}
        }
    }
    let (Some(strings), Some(symbols)) = (strings, symbols) else { return Err("it has no symbols".into()) };
    // The symbol table doesn't say how long it is. The hash table does; without one, it ends where
    // the strings begin, as linkers lay it out.
    let count = match (hash, gnu_hash) {
        (Some(hash), _) => half(image, hash + 4)? as usize,
        _ if strings > symbols => (strings - symbols) / SYMBOL,
        _ => return Err("the length of its symbol table is not known".into()),
    };
    let mut found = [None; 3];
    for number in 0..count.min(MAX_SYMBOLS) {
        let at = symbols.checked_add(number * SYMBOL).ok_or("its symbols are out of place")?;
        let name = strings.wrapping_add(half(image, at)? as usize);
        let info = image.get(at + 4).copied().unwrap_or_default();
        let defined = image.get(at + 6..at + 8) != Some(&[0, 0]);
        let address = word(image, at + 8)?.wrapping_sub(load);
        let name = image.get(name..).and_then(|rest| rest.split(|b| *b == 0).next()).unwrap_or_default();
        let function = FUNCTIONS.iter().position(|wanted| !wanted.is_empty() && wanted.as_bytes() == name);
        if let Some(function) = function
            && info & 15 == 2
            && defined
            && (address as usize) < image.len()
        {
            found[function] = Some(address);
        }
    }
    if found[0].is_none() {
        return Err(format!("it has no {}", FUNCTIONS[0]));
    }
    Ok(found)
}

/// A `u32`, as ELF calls a word; our callers care for the low half of things.
fn half(image: &[u8], at: usize) -> Result<u32, String> {
    let bytes = at.checked_add(4).and_then(|end| image.get(at..end)).ok_or("it ends too early")?;
    let value = u32::from_le_bytes(bytes.try_into().map_err(|_| "it ends too early")?);
    // The number of program headers is 16 bits wide, at 56.
    Ok(if at == 56 { value & 0xffff } else { value })
}

fn word(image: &[u8], at: usize) -> Result<u64, String> {
    let bytes = at.checked_add(8).and_then(|end| image.get(at..end)).ok_or("it ends too early")?;
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| "it ends too early")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> Vec<u8> {
        let maps = crate::maps::of(std::process::id() as i32).expect("own map");
        let vdso = maps.iter().find(|m| m.name == "[vdso]").expect("a vDSO");
        let memory = std::fs::File::open("/proc/self/mem").expect("own memory");
        let mut image = vec![0; (vdso.end - vdso.start) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut image, vdso.start).expect("the vDSO");
        image
    }

    #[test]
    fn this_machine_s_vdso_has_all_functions() {
        let found = functions(&own()).expect("understood");
        for (name, at) in FUNCTIONS.iter().zip(found) {
            assert!(name.is_empty() || at.is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn damaged_images_never_panic(at in 0usize..8192, with in proptest::collection::vec(any::<u8>(), 1..16), cut in 0usize..9000) {
            let mut image = own();
            let end = (at + with.len()).min(image.len());
            image[at.min(end)..end].copy_from_slice(&with[..end - at.min(end)]);
            image.truncate(cut.max(64));
            let _ = functions(&image);
        }
    }
}
