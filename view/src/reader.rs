//! Reads a view back, for tests, tools and fuzzing. Every bound is checked once, so that reading cannot fail afterwards.

use std::fmt;

use crate::abi::{DIRECTORY_ENTRY_BYTES, ENTRY_BYTES, Flags, HEADER_BYTES, MAGIC, MAJOR, SectionId};
use crate::entry::{Entry, Views};

/// A view that breaks no rule of the layout.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// One section as it is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadSection<'a> {
    /// Its number; one that [`SectionId`] does not know is of a later minor version.
    pub number: u16,
    /// Its flags.
    pub flags: Flags,
    /// How many entries it has.
    pub count: usize,
    /// Its bytes: the table of entries, then what they refer to.
    pub bytes: &'a [u8],
}

/// What is wrong with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It does not start with `PCV2`, or not with a major version of 2.
    NotAView,
    /// Its length is not the one that it states.
    Length {
        /// What its header says.
        stated: u32,
        /// Bytes there are.
        found: usize,
    },
    /// The directory does not fit.
    Directory {
        /// How many sections the header promises.
        sections: u32,
    },
    /// Sections are not in ascending order of their numbers, or one is there twice.
    Order {
        /// The section that is out of order.
        section: u16,
    },
    /// A section is not within the view, not at a multiple of 4, overlaps the one before, or is shorter than its table.
    Section {
        /// The section.
        section: u16,
    },
    /// A view of an entry is not within its section, or lies in the table.
    Entry {
        /// The section.
        section: u16,
        /// The entry.
        index: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAView => write!(f, "not a view: it has to start with PCV2 and major version 2"),
            Self::Length { stated, found } => {
                write!(f, "the header states {stated} bytes, there are {found}")
            }
            Self::Directory { sections } => write!(f, "a directory of {sections} sections does not fit"),
            Self::Order { section } => {
                write!(f, "section {section} is out of order: numbers have to ascend")
            }
            Self::Section { section } => {
                write!(
                    f,
                    "section {section} has to lie after the one before, at a multiple of 4, with its table inside"
                )
            }
            Self::Entry { section, index } => {
                write!(f, "entry {index} of section {section} refers to bytes that are not behind its table")
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl<'a> Reader<'a> {
    /// Checks the whole view.
    ///
    /// # Errors
    ///
    /// The first rule of the layout that it breaks.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(ReadError::NotAView)?;
        if !header.starts_with(MAGIC.as_bytes()) || half(header, 4) != MAJOR {
            return Err(ReadError::NotAView);
        }
        let (stated, sections) = (word(header, 8), word(header, 12));
        if stated as usize != bytes.len() || stated > i32::MAX as u32 {
            return Err(ReadError::Length { stated, found: bytes.len() });
        }
        let count = sections as usize;
        let directory_end = count
            .checked_mul(DIRECTORY_ENTRY_BYTES)
            .and_then(|length| length.checked_add(HEADER_BYTES))
            .filter(|&end| end <= bytes.len())
            .ok_or(ReadError::Directory { sections })?;
        let reader = Self { bytes, count };
        let (mut number, mut end) = (0, directory_end);
        for index in 0..count {
            let (section, start) = reader.locate(index);
            if section.number <= number {
                return Err(ReadError::Order { section: section.number });
            }
            number = section.number;
            let misplaced = ReadError::Section { section: number };
            let stop =
                start.checked_add(section.length).filter(|&stop| stop <= bytes.len()).ok_or(misplaced)?;
            let table = section.count.checked_mul(ENTRY_BYTES).filter(|&table| table <= section.length);
            if start % 4 != 0 || start < end || table.is_none() {
                return Err(misplaced);
            }
            end = stop;
            let read = section.read(&bytes[start..stop]);
            for index in 0..read.count {
                read.check(index)?;
            }
        }
        Ok(reader)
    }

    /// The sections, in order.
    pub fn sections(&self) -> impl Iterator<Item = ReadSection<'a>> + use<'a> {
        let reader = *self;
        (0..self.count).map(move |index| {
            let (located, start) = reader.locate(index);
            located.read(&reader.bytes[start..start + located.length])
        })
    }

    /// One section, if the view has it.
    pub fn section(&self, id: SectionId) -> Option<ReadSection<'a>> {
        self.sections().find(|section| section.number == id.number())
    }

    fn locate(&self, index: usize) -> (Located, usize) {
        let at = HEADER_BYTES + index * DIRECTORY_ENTRY_BYTES;
        let line = &self.bytes[at..at + DIRECTORY_ENTRY_BYTES];
        let located = Located {
            number: half(line, 0),
            flags: Flags::from_bits(half(line, 2)),
            length: word(line, 8) as usize,
            count: word(line, 12) as usize,
        };
        (located, word(line, 4) as usize)
    }
}

/// A line of the directory.
struct Located {
    number: u16,
    flags: Flags,
    length: usize,
    count: usize,
}

impl Located {
    fn read<'a>(&self, bytes: &'a [u8]) -> ReadSection<'a> {
        ReadSection { number: self.number, flags: self.flags, count: self.count, bytes }
    }
}

impl<'a> ReadSection<'a> {
    /// The entry of an index, from 0.
    pub fn entry(&self, index: usize) -> Option<Entry<'a>> {
        (index < self.count).then(|| {
            let row = self.row(index);
            let view = |at: usize| {
                let start = word(row, at) as usize;
                &self.bytes[start..start + word(row, at + 4) as usize]
            };
            let views = |at: usize| Views { raw: view(at), decoded: view(at + 8), canonical: view(at + 16) };
            Entry {
                flags: Flags::from_bits(half(row, 0)),
                kind: half(row, 2),
                name: views(4),
                value: views(28),
            }
        })
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let section = *self;
        (0..section.count).map_while(move |index| section.entry(index))
    }

    fn row(&self, index: usize) -> &'a [u8] {
        &self.bytes[index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES]
    }

    fn check(&self, index: usize) -> Result<(), ReadError> {
        let (row, table) = (self.row(index), self.count * ENTRY_BYTES);
        for at in (4..ENTRY_BYTES).step_by(8) {
            let (start, length) = (word(row, at) as usize, word(row, at + 4) as usize);
            let inside = start.checked_add(length).is_some_and(|end| end <= self.bytes.len());
            if start < table || !inside {
                return Err(ReadError::Entry { section: self.number, index });
            }
        }
        Ok(())
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
