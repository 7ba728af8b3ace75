//! Bytes of the ring buffer → typed events. Pure: no I/O, and garbage gives an error, never a
//! panic or a wild length.

use bytes::Buf;
use memprof_common::ImageKey;
use memprof_common::records::{self, Header, RawFrame, Text, kind};

/// One record of the kernel side, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Pages became resident.
    Growth(records::Growth),
    /// A stack seen for the first time; frames leaf first.
    Stack {
        /// Common part.
        header: Header,
        /// Its id within the process.
        id: u64,
        /// Leaf first.
        frames: Vec<RawFrame>,
    },
    /// A code object seen for the first time.
    Code(Box<CodeObject>),
    /// A system call changed the address space.
    AddressSpace(records::AddressSpace),
    /// A process began, executed, or ended.
    Task(records::Task),
    /// The kernel side recognised an interpreter.
    Interpreter(records::Interpreter),
    /// Address space was asked for.
    Mapping(records::Mapping),
    /// A call of a marked function begins or ends.
    Mark(records::Mark),
    /// The number of a decorated function has a name.
    MarkName {
        /// The process, thread, time.
        header: Header,
        /// What its marks carry.
        function: u64,
        /// `module.qualname`, as the program says.
        name: String,
    },
    /// A function is about to be defined.
    Definition(Definition),
}

/// A function that is about to be defined, as the program says.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The process, thread, time.
    pub header: Header,
    /// Address of its code object in the target.
    pub code: u64,
    /// The program waits until this is answered.
    pub token: Option<u64>,
    /// `__module__`, where the program could tell.
    pub module: Option<String>,
    /// `__qualname__`
    pub qualname: String,
}

/// A code object, as the kernel side read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CodeObject {
    /// The process, thread, time.
    pub header: Header,
    /// Its address in the target.
    pub address: u64,
    /// Another value at the same address is another code object.
    pub identity: u64,
    /// `co_firstlineno`.
    pub first_line: i32,
    /// `co_flags`.
    pub co_flags: u32,
    /// `0xMMmm`.
    pub version: u32,
    /// Offset of the byte code inside the code object, 0 for 3.10 and older.
    pub code_adaptive: u32,
    /// Address of the line table's bytes.
    pub linetable_address: u64,
    /// Its whole length.
    pub linetable_len: u32,
    /// What was sent of it; shorter than `linetable_len` when it was cut.
    pub linetable: Vec<u8>,
    /// Qualified name (3.11+) or name. None when it could not be read.
    pub name: Option<String>,
    /// Source file. None when it could not be read.
    pub filename: Option<String>,
}

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its kind demands.
    Short,
    /// No such kind.
    Kind(u16),
    /// A length inside it contradicts its size.
    Length,
}

/// Decodes one record.
pub fn decode(mut record: &[u8]) -> Result<Event, DecodeError> {
    let header = header(&mut record)?;
    match header.kind {
        kind::GROWTH => growth(header, record),
        kind::STACK => stack(header, record),
        kind::CODE => code(header, record),
        kind::ADDRESS_SPACE => address_space(header, record),
        kind::TASK => task(header, record),
        kind::INTERPRETER => interpreter(header, record),
        kind::MAPPING => mapping(header, record),
        kind::MARK => mark(header, record),
        kind::MARK_NAME => mark_name(header, record),
        other => Err(DecodeError::Kind(other)),
    }
}

fn need(record: &[u8], bytes: usize) -> Result<(), DecodeError> {
    if record.len() < bytes {
        return Err(DecodeError::Short);
    }
    Ok(())
}

fn header(record: &mut &[u8]) -> Result<Header, DecodeError> {
    need(record, size_of::<Header>())?;
    Ok(Header {
        kind: record.get_u16_ne(),
        op: record.get_u16_ne(),
        pid: record.get_u32_ne(),
        tid: record.get_u32_ne(),
        flags: record.get_u32_ne(),
        time_ns: record.get_u64_ne(),
    })
}

/// Size of what follows the header in a record of type `T`.
const fn body<T>() -> usize {
    size_of::<T>() - size_of::<Header>()
}

fn growth(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Growth>())?;
    let growth = records::Growth {
        header,
        start: record.get_u64_ne(),
        end: record.get_u64_ne(),
        stack: record.get_u64_ne(),
        ip: record.get_u64_ne(),
        pages: record.get_u32_ne(),
        events: record.get_u32_ne(),
        member: record.get_u32_ne(),
        _padding: 0,
    };
    if growth.end < growth.start || growth.member as usize >= records::member::COUNT {
        return Err(DecodeError::Length);
    }
    Ok(Event::Growth(growth))
}

fn stack(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Stack>())?;
    let id = record.get_u64_ne();
    let depth = record.get_u32_ne() as usize;
    record.advance(4);
    if record.len() < depth.saturating_mul(size_of::<RawFrame>()) {
        return Err(DecodeError::Length);
    }
    let frames = (0..depth)
        .map(|_| RawFrame {
            code: record.get_u64_ne(),
            instr: record.get_u64_ne(),
        })
        .collect();
    Ok(Event::Stack { header, id, frames })
}

fn text_head(record: &mut &[u8]) -> Text {
    Text {
        length: record.get_u32_ne(),
        stored: record.get_u16_ne(),
        width: record.get_u16_ne(),
    }
}

/// Characters as CPython stores them: Latin-1, UCS-2 or UCS-4. Lone surrogates (file names that
/// are not UTF-8) become U+FFFD.
pub(crate) fn text(head: Text, data: &[u8]) -> Option<String> {
    let data = data.get(..head.stored as usize)?;
    let character = |code: u32| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut string: String = match head.width {
        1 => data.iter().map(|&byte| byte as char).collect(),
        2 => data
            .chunks_exact(2)
            .map(|c| character(u16::from_ne_bytes([c[0], c[1]]) as u32))
            .collect(),
        4 => data
            .chunks_exact(4)
            .map(|c| character(u32::from_ne_bytes([c[0], c[1], c[2], c[3]])))
            .collect(),
        _ => return None,
    };
    if (head.stored as u64) < head.length as u64 * head.width as u64 {
        string.push('…');
    }
    Some(string)
}

fn code(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Code>())?;
    let address = record.get_u64_ne();
    let identity = record.get_u64_ne();
    let first_line = record.get_i32_ne();
    let co_flags = record.get_u32_ne();
    let version = record.get_u32_ne();
    let linetable_len = record.get_u32_ne();
    let linetable_stored = record.get_u32_ne() as usize;
    let code_adaptive = record.get_u32_ne();
    let linetable_address = record.get_u64_ne();
    let name = text_head(&mut record);
    let filename = text_head(&mut record);
    let (name_data, rest) = record.split_at(records::NAME_BYTES);
    let (filename_data, rest) = rest.split_at(records::FILENAME_BYTES);
    let linetable = rest
        .get(..linetable_stored)
        .ok_or(DecodeError::Length)?
        .to_vec();
    Ok(Event::Code(Box::new(CodeObject {
        header,
        address,
        identity,
        first_line,
        co_flags,
        version,
        code_adaptive,
        linetable_address,
        linetable_len,
        linetable,
        name: text(name, name_data),
        filename: text(filename, filename_data),
    })))
}

fn address_space(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::AddressSpace>())?;
    Ok(Event::AddressSpace(records::AddressSpace {
        header,
        start: record.get_u64_ne(),
        len: record.get_u64_ne(),
        new_start: record.get_u64_ne(),
        new_len: record.get_u64_ne(),
        rss_pages: record.get_i64_ne(),
    }))
}

fn interpreter(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Interpreter>())?;
    let key = ImageKey {
        inode: record.get_u64_ne(),
        device: record.get_u32_ne(),
        _padding: record.get_u32_ne(),
    };
    Ok(Event::Interpreter(records::Interpreter {
        header,
        key,
        base: record.get_u64_ne(),
    }))
}

fn mapping(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Mapping>())?;
    let mapping = records::Mapping {
        header,
        start: record.get_u64_ne(),
        len: record.get_u64_ne(),
        stack: record.get_u64_ne(),
        member: record.get_u32_ne(),
        _padding: 0,
    };
    let ends = mapping.start.checked_add(mapping.len).is_some();
    if !ends || mapping.member > records::Mapping::LIKE_BEFORE {
        return Err(DecodeError::Length);
    }
    Ok(Event::Mapping(mapping))
}

fn mark(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Mark>())?;
    Ok(Event::Mark(records::Mark {
        header,
        function: record.get_u64_ne(),
        lane: record.get_u64_ne(),
        key: record.get_u64_ne(),
        rss_pages: record.get_i64_ne(),
        source: record.get_u32_ne(),
        depth: record.get_u32_ne(),
    }))
}

fn mark_name(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::MarkName>())?;
    let stored = record.get_u32_ne() as usize;
    record.advance(4);
    let text = record.get(..stored).ok_or(DecodeError::Length)?;
    let text = text.strip_suffix(b"\0").ok_or(DecodeError::Length)?;
    let text = String::from_utf8_lossy(text);
    let (function, name) = number(&text)?;
    if header.op != records::name_op::FUNCTION {
        return Ok(Event::MarkName {
            header,
            function,
            name: name.to_owned(),
        });
    }
    let (token, name) = number(name)?;
    let (module, qualname) = name.split_once(':').ok_or(DecodeError::Length)?;
    Ok(Event::Definition(Definition {
        header,
        code: function,
        token: (token != 0).then_some(token),
        module: (!module.is_empty()).then(|| module.to_owned()),
        qualname: qualname.to_owned(),
    }))
}

/// A number in hexadecimal, and what stands behind its colon.
fn number(text: &str) -> Result<(u64, &str), DecodeError> {
    let (number, rest) = text.split_once(':').ok_or(DecodeError::Length)?;
    let number = u64::from_str_radix(number, 16).map_err(|_| DecodeError::Length)?;
    Ok((number, rest))
}

fn task(header: Header, mut record: &[u8]) -> Result<Event, DecodeError> {
    need(record, body::<records::Task>())?;
    let other = record.get_u32_ne();
    let shares_memory = record.get_u32_ne();
    let mut rss_pages = [0; records::member::COUNT];
    for pages in &mut rss_pages {
        *pages = record.get_i64_ne();
    }
    Ok(Event::Task(records::Task {
        header,
        other,
        shares_memory,
        rss_pages,
    }))
}
