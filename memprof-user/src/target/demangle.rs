//! The name of a symbol as its source has it: C++ and Rust write types and paths into it.

use std::fmt::{self, Write};

use cpp_demangle::DemangleOptions;

/// Bytes of a name that are kept, as many as a frame can show. A few bytes may spell out more than
/// memory holds, so that writing ends there.
const NAME_BYTES: usize = 256;

/// A longer symbol is shown as it is. (Itanium C++ ABI and Rust's v0 both nest without bound.)
const MANGLED_BYTES: usize = 8192;

/// Without the types of parameters and result, and without Rust's hash; at most [`NAME_BYTES`].
pub fn demangled(symbol: &[u8]) -> String {
    let mut name = Bounded(String::new());
    let plain = String::from_utf8_lossy(symbol);
    let written = match symbol.len() {
        0..=MANGLED_BYTES => rust(&plain, &mut name) || cpp(symbol, &mut name),
        _ => false,
    };
    if !written {
        name.0.clear();
        // Cut like the others.
        let _ = name.write_str(&plain);
    }
    name.0
}

fn rust(symbol: &str, name: &mut Bounded) -> bool {
    match rustc_demangle::try_demangle(symbol) {
        Ok(demangled) => write!(name, "{demangled:#}").is_ok() || name.is_full(),
        Err(_) => false,
    }
}

fn cpp(symbol: &[u8], name: &mut Bounded) -> bool {
    if !symbol.starts_with(b"_Z") {
        return false;
    }
    let options = DemangleOptions::new().no_params().no_return_type();
    match cpp_demangle::Symbol::new(symbol) {
        Ok(parsed) => parsed.structured_demangle(name, &options).is_ok() || name.is_full(),
        Err(_) => false,
    }
}

/// A text that takes [`NAME_BYTES`] and then fails.
struct Bounded(String);

impl Bounded {
    fn is_full(&self) -> bool {
        self.0.ends_with('…')
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = NAME_BYTES.saturating_sub(self.0.len());
        let fits = text.len() <= room;
        let ends = (0..=room.min(text.len())).rev();
        let end = ends.into_iter().find(|&end| text.is_char_boundary(end));
        self.0.push_str(&text[..end.unwrap_or(0)]);
        if !fits {
            self.0.push('…');
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_in_the_source() {
        for (symbol, name) in [
            ("memset", "memset"),
            ("_PyObject_Malloc", "_PyObject_Malloc"),
            ("_Znwm", "operator new"),
            ("_ZN5arrow6Buffer8FromDataEPKhl", "arrow::Buffer::FromData"),
            (
                "_ZNSt6vectorIiSaIiEE7reserveEm",
                "std::vector<int, std::allocator<int> >::reserve",
            ),
            (
                "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
                "core::fmt::Formatter::pad",
            ),
            ("_RNvCs1234_7mycrate4main", "mycrate::main"),
            ("_Z", "_Z"),
            ("_ZN", "_ZN"),
            ("", ""),
        ] {
            assert_eq!(demangled(symbol.as_bytes()), name);
        }
    }

    #[test]
    fn what_is_long_or_no_text_is_cut_and_shown() {
        assert_eq!(demangled(b"a\xffb"), "a\u{fffd}b");
        let long = demangled(&vec![b'a'; 100_000]);
        assert_eq!(
            (long.len(), long.ends_with('…')),
            (NAME_BYTES + '…'.len_utf8(), true)
        );
        // Each pair holds the one before twice: 2^40 names.
        let mut bomb = String::from("_Z1fSt4pairI1aS0_E");
        for depth in 0..40 {
            let before = format!("S{}_", base36(2 * depth + 1));
            bomb += &format!("St4pairI{before}{before}E");
        }
        assert!(demangled(bomb.as_bytes()).len() <= NAME_BYTES + 3);
    }

    fn base36(mut number: u32) -> String {
        let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut text = Vec::new();
        loop {
            text.insert(0, digits[number as usize % 36]);
            number /= 36;
            if number == 0 {
                return String::from_utf8(text).unwrap();
            }
        }
    }
}
