//! Offsets of structure members in the running kernel, from its BTF.
//!
//! A reader of the few kinds that lead from a structure's name to a member's offset; layout and
//! kinds are those of include/uapi/linux/btf.h. aya keeps its own parser private.

use std::collections::HashMap;

/// Where every kernel with `CONFIG_DEBUG_INFO_BTF` shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Kinds used here (BTF_KIND_*).
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Nesting of anonymous structures that is followed at most.
const MAX_NESTING: u32 = 16;

/// A parsed BTF blob.
pub struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type's record; index = type id.
    types: Vec<usize>,
    structures: HashMap<String, u32>,
}

impl KernelTypes {
    /// Parses a blob. None when it is not well-formed BTF of this machine's byte order.
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        let mut types = KernelTypes {
            data,
            strings: 0,
            types: vec![0],
            structures: HashMap::new(),
        };
        // struct btf_header: magic u16, version u8, flags u8, hdr_len, type_off, type_len,
        // str_off, str_len (all u32).
        if types.u32(0)? & 0xffff != 0xeb9f {
            return None;
        }
        let header = types.u32(4)? as usize;
        let start = header.checked_add(types.u32(8)? as usize)?;
        let end = start.checked_add(types.u32(12)? as usize)?;
        types.strings = header.checked_add(types.u32(16)? as usize)?;
        let mut at = start;
        while at < end {
            types.types.push(at);
            at = at.checked_add(types.record_len(at)?)?;
        }
        for id in 1..types.types.len() as u32 {
            if types.kind(id)? == STRUCT {
                let name = types.name(types.u32(types.at(id)?)?)?;
                if !name.is_empty() {
                    types.structures.entry(name).or_insert(id);
                }
            }
        }
        Some(types)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.data.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn at(&self, id: u32) -> Option<usize> {
        self.types.get(id as usize).copied().filter(|at| *at != 0)
    }

    /// kind_flag bit and kind of a type.
    fn kind(&self, id: u32) -> Option<u32> {
        Some(self.u32(self.at(id)? + 4)? >> 24 & 0x1f)
    }

    fn name(&self, offset: u32) -> Option<String> {
        let bytes = self
            .data
            .get(self.strings.checked_add(offset as usize)?..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn record_len(&self, at: usize) -> Option<usize> {
        let info = self.u32(at + 4)?;
        let count = (info & 0xffff) as usize;
        Some(
            12 + match info >> 24 & 0x1f {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                _ => 0,
            },
        )
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_NESTING {
            match self.kind(id)? {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                    id = self.u32(self.at(id)? + 8)?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// Size in bytes of a structure.
    pub fn size_of(&self, structure: &str) -> Option<u32> {
        self.u32(self.at(*self.structures.get(structure)?)? + 8)
    }

    /// Offset in bytes of `path` ("thread.fsbase") in a structure; members of anonymous
    /// structures are found by their own name.
    pub fn offset_of(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structures.get(structure)?;
        let mut offset = 0;
        for name in path.split('.') {
            let (bits, member) = self.member(id, name, 0)?;
            offset += bits / 8;
            id = self.resolve(member).unwrap_or(0);
        }
        Some(offset)
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, wanted: &str, nesting: u32) -> Option<(u32, u32)> {
        let kind = self.kind(id)?;
        if nesting > MAX_NESTING || (kind != STRUCT && kind != UNION) {
            return None;
        }
        let at = self.at(id)?;
        let info = self.u32(at + 4)?;
        for index in 0..(info & 0xffff) as usize {
            let member = at + 12 + 12 * index;
            let name = self.name(self.u32(member)?)?;
            let member_type = self.u32(member + 4)?;
            // With the kind flag the upper 8 bits are a bit field's size.
            let bits = match info >> 31 {
                0 => self.u32(member + 8)?,
                _ => self.u32(member + 8)? & 0xff_ffff,
            };
            if name == wanted {
                return Some((bits, member_type));
            }
            if name.is_empty() {
                let inner = self.resolve(member_type)?;
                if let Some((more, found)) = self.member(inner, wanted, nesting + 1) {
                    return Some((bits + more, found));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused() {
        assert!(KernelTypes::parse(Vec::new()).is_none());
        assert!(KernelTypes::parse(vec![0x9f, 0xeb, 1, 0, 24, 0]).is_none());
        assert!(KernelTypes::parse(vec![0xff; 64]).is_none());
    }

    #[test]
    fn the_running_kernel_has_the_members() {
        let Ok(data) = std::fs::read(VMLINUX) else {
            assert!(std::env::var_os("CI").is_none(), "{VMLINUX} is missing");
            return;
        };
        let types = KernelTypes::parse(data).expect("well-formed");
        assert_eq!(types.offset_of("list_head", "prev"), Some(8));
        assert!(types.offset_of("task_struct", "thread.fsbase").is_some());
        assert!(types.offset_of("mm_struct", "rss_stat").is_some());
        assert_eq!(types.offset_of("mm_struct", "no_such_member"), None);
    }
}
