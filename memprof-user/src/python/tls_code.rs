//! What the code of two exported functions tells of CPython 3.15's thread-local variables, whose
//! symbols are not exported.
//!
//! It is a hint for the start, and the tie-breaker between `_Py_tss_gilstate` and
//! `_Py_tss_tstate`, which look alike while a thread holds the GIL: whatever it says, a process's
//! threads have to confirm it (see [`super::calibrate`]).

/// Bytes of each function that are looked at: none seen has more than 30.
pub const BYTES: usize = 48;

/// Where the two variables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsCode {
    /// `_Py_tss_gilstate`: what `PyGILState_GetThisThreadState` returns.
    pub gilstate: i32,
    /// `_Py_tss_tstate`: what `PyThreadState_GetUnchecked` returns.
    pub tstate: i32,
    /// Both count from the thread pointer (a program). Otherwise from the module's block, which
    /// is somewhere below the thread pointer (a library).
    pub from_thread_pointer: bool,
}

/// From the first bytes of `PyGILState_GetThisThreadState` and `PyThreadState_GetUnchecked`.
pub fn tls_code(gilstate: &[u8], tstate: &[u8]) -> Option<TlsCode> {
    let (gilstate, tstate) = (variable(gilstate)?, variable(tstate)?);
    (gilstate.1 == tstate.1).then_some(TlsCode {
        gilstate: gilstate.0,
        tstate: tstate.0,
        from_thread_pointer: gilstate.1,
    })
}

/// `mov %fs:disp32,%rax`: a variable of the program (local-exec).
const MOV_FS: [u8; 5] = [0x64, 0x48, 0x8b, 0x04, 0x25];
/// `call rel32`, to `__tls_get_addr` (general-dynamic and local-dynamic).
const CALL: u8 = 0xe8;
/// `mov disp32(%rax),%rax` and `mov disp8(%rax),%rax`
const MOV_32: [u8; 3] = [0x48, 0x8b, 0x80];
const MOV_8: [u8; 3] = [0x48, 0x8b, 0x40];

/// Displacement, and whether it is from the thread pointer.
fn variable(code: &[u8]) -> Option<(i32, bool)> {
    let after = |bytes: &[u8], pattern: &[u8]| {
        let at = bytes
            .windows(pattern.len())
            .position(|window| window == pattern)?;
        bytes.get(at + pattern.len()..).map(<[u8]>::to_vec)
    };
    let displacement = |rest: &[u8]| {
        let bytes = rest.get(..4)?.try_into().ok()?;
        Some(i32::from_le_bytes(bytes))
    };
    if let Some(rest) = after(code, &MOV_FS) {
        return Some((displacement(&rest)?, true));
    }
    let called = after(code, &[CALL])?;
    if let Some(rest) = after(&called, &MOV_32) {
        return Some((displacement(&rest)?, false));
    }
    let rest = after(&called, &MOV_8)?;
    Some((i32::from(*rest.first()? as i8), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// endbr64; mov %fs:-40,%rax; ret (Debian's python3.15)
    const STATIC: &[u8] = b"\xf3\x0f\x1e\xfa\x64\x48\x8b\x04\x25\xd8\xff\xff\xff\xc3";
    /// endbr64; push; mov; lea; call; pop; mov 0x28(%rax),%rax; ret (its libpython3.15)
    const SHARED: &[u8] = b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x48\x8d\x3d\x61\xa6\x4a\x00\
        \xe8\x5c\x9d\xcf\xff\x5d\x48\x8b\x80\x28\x00\x00\x00\xc3";

    #[test]
    fn both_kinds_of_build_are_read() {
        let other = STATIC.iter().map(|&b| if b == 0xd8 { 0xe0 } else { b });
        let code = tls_code(STATIC, &other.collect::<Vec<_>>()).unwrap();
        assert_eq!((code.gilstate, code.tstate), (-40, -32));
        assert!(code.from_thread_pointer);
        let short = b"\xe8\0\0\0\0\x5d\x48\x8b\x40\x08\xc3";
        let code = tls_code(SHARED, short).unwrap();
        assert_eq!((code.gilstate, code.tstate), (0x28, 8));
        assert!(!code.from_thread_pointer);
    }

    #[test]
    fn other_code_is_no_answer() {
        assert_eq!(tls_code(STATIC, SHARED), None);
        assert_eq!(tls_code(b"", STATIC), None);
        for len in 0..SHARED.len() - 3 {
            assert_eq!(tls_code(&SHARED[..len], SHARED), None, "{len}");
        }
    }
}
