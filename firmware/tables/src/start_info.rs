//! `hvm_start_info`, what a PVH guest is given in ebx (Xen `public/arch-x86/hvm/start_info.h`).

use crate::Memory;

const MAGIC: u64 = 0x336E_C578;
/// More entries or modules than this are ignored.
const MAX_ENTRIES: u64 = 64;

/// The start info's fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartInfo {
    /// Physical address of the command line (zero-terminated), or 0.
    pub command_line: u64,
    /// Physical address of the ACPI RSDP, or 0.
    pub rsdp: u64,
    modules: (u64, u64),
    memory_map: (u64, u64),
}

/// A range of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
}

impl StartInfo {
    /// Reads the start info at a physical address; `None` if it is not one. A version 0 start info has no memory map.
    pub fn read(memory: &impl Memory, address: u64) -> Option<Self> {
        if memory.number::<4>(address)? != MAGIC {
            return None;
        }
        let version = memory.number::<4>(address + 4)?;
        let modules = (
            memory.number::<8>(address + 16)?,
            memory.number::<4>(address + 12)?,
        );
        let memory_map = if version >= 1 {
            (
                memory.number::<8>(address + 40)?,
                memory.number::<4>(address + 48)?,
            )
        } else {
            (0, 0)
        };
        Some(Self {
            command_line: memory.number::<8>(address + 24)?,
            rsdp: memory.number::<8>(address + 32)?,
            modules,
            memory_map,
        })
    }

    /// The ranges of usable RAM (type 1), in the order of the map.
    pub fn ram<'a, M: Memory>(&self, memory: &'a M) -> impl Iterator<Item = Range> + use<'a, M> {
        entries(self.memory_map, 24).filter_map(move |at| {
            let (start, size) = (memory.number::<8>(at)?, memory.number::<8>(at + 8)?);
            let end = start.checked_add(size)?;
            (memory.number::<4>(at + 16)? == 1 && end > start).then_some(Range { start, end })
        })
    }

    /// The ranges that hold modules (an initial RAM disk).
    pub fn modules<'a, M: Memory>(
        &self,
        memory: &'a M,
    ) -> impl Iterator<Item = Range> + use<'a, M> {
        entries(self.modules, 32).filter_map(move |at| {
            let (start, size) = (memory.number::<8>(at)?, memory.number::<8>(at + 8)?);
            Some(Range {
                start,
                end: start.checked_add(size)?,
            })
        })
    }

    /// The command line, up to its zero byte or 4096 bytes; empty if there is none.
    pub fn command_line_bytes<'a>(&self, memory: &'a impl Memory) -> &'a [u8] {
        if self.command_line == 0 {
            return &[];
        }
        let mut length = 0;
        while length < 4096
            && memory
                .number::<1>(self.command_line + length)
                .is_some_and(|byte| byte != 0)
        {
            length += 1;
        }
        memory
            .bytes(self.command_line, length as usize)
            .unwrap_or(&[])
    }
}

fn entries((start, count): (u64, u64), size: u64) -> impl Iterator<Item = u64> {
    (0..count.min(MAX_ENTRIES)).map(move |index| start.saturating_add(index * size))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::test_memory::Flat;
    use std::vec;
    use std::vec::Vec;

    fn sample() -> Flat {
        let mut memory = Flat(vec![0; 4096]);
        memory.put(0x100, &0x336E_C578_u32.to_le_bytes());
        memory.put(0x104, &1_u32.to_le_bytes());
        memory.put(0x100 + 12, &1_u32.to_le_bytes());
        memory.put(0x100 + 16, &0x400_u64.to_le_bytes());
        memory.put(0x100 + 24, &0x200_u64.to_le_bytes());
        memory.put(0x100 + 32, &0xE_0000_u64.to_le_bytes());
        memory.put(0x100 + 40, &0x300_u64.to_le_bytes());
        memory.put(0x100 + 48, &3_u32.to_le_bytes());
        memory.put(0x200, b"probe=\"cpus\"\0junk");
        for (index, (start, size, kind)) in [
            (0_u64, 0xA_0000_u64, 1_u32),
            (0xA_0000, 0x6_0000, 2),
            (0x10_0000, 0x700_0000, 1),
        ]
        .into_iter()
        .enumerate()
        {
            memory.put(0x300 + 24 * index, &start.to_le_bytes());
            memory.put(0x308 + 24 * index, &size.to_le_bytes());
            memory.put(0x310 + 24 * index, &kind.to_le_bytes());
        }
        memory.put(0x400, &0x20_0000_u64.to_le_bytes());
        memory.put(0x408, &0x1000_u64.to_le_bytes());
        memory
    }

    #[test]
    fn reads_ram_modules_and_command_line() {
        let memory = sample();
        let info = StartInfo::read(&memory, 0x100).unwrap();
        assert_eq!(info.rsdp, 0xE_0000);
        assert_eq!(info.command_line_bytes(&memory), b"probe=\"cpus\"");
        let ram: Vec<_> = info.ram(&memory).collect();
        assert_eq!(
            ram,
            [
                Range {
                    start: 0,
                    end: 0xA_0000
                },
                Range {
                    start: 0x10_0000,
                    end: 0x710_0000
                }
            ]
        );
        assert_eq!(
            info.modules(&memory).collect::<Vec<_>>(),
            [Range {
                start: 0x20_0000,
                end: 0x20_1000
            }]
        );
    }

    #[test]
    fn refuses_what_is_no_start_info() {
        let mut memory = sample();
        memory.put(0x100, &[0]);
        assert_eq!(StartInfo::read(&memory, 0x100), None);
        assert_eq!(StartInfo::read(&memory, 0xFFFF_FFFF), None);
    }

    #[test]
    fn a_map_outside_memory_is_empty() {
        let mut memory = sample();
        memory.put(0x100 + 40, &u64::MAX.to_le_bytes());
        let info = StartInfo::read(&memory, 0x100).unwrap();
        assert_eq!(info.ram(&memory).count(), 0);
    }
}
