//! What the guest's processors say about themselves.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};

use crate::{Kvm, KvmError};

const FEATURES: u32 = 1;
const CACHES: u32 = 4;
const TOPOLOGY: u32 = 0xB;
const TOPOLOGY_V2: u32 = 0x1F;
const HYPERVISOR: u32 = 0x4000_0000;
/// Frequencies of the TSC and of the local APIC's timer, in kHz.
const HYPERVISOR_TIMING: u32 = 0x4000_0010;
const AMD_CACHES: u32 = 0x8000_001D;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_TOPOLOGY: u32 = 0x8000_001E;

const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HYPERTHREADING: u32 = 1 << 28;
/// KVM's local APIC timer counts nanoseconds.
const APIC_TIMER_KHZ: u32 = 1_000_000;

/// The processor's features as all vCPUs of a machine share them: one package, one core per vCPU. Asking KVM
/// is the dear part; do it once per machine and derive each vCPU's view.
#[derive(Clone)]
pub struct Cpuid {
    entries: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

impl Cpuid {
    /// Everything KVM can offer here, for a machine of `vcpus` vCPUs.
    ///
    /// # Errors
    /// KVM does not tell.
    pub fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, KvmError> {
        let supported = kvm
            .raw()
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::of("asking for CPUID"))?;
        Ok(Self {
            entries: supported.as_slice().to_vec(),
            vcpus,
        })
    }

    /// The same for another number of vCPUs.
    #[must_use]
    pub fn with_vcpus(self, vcpus: u8) -> Self {
        Self { vcpus, ..self }
    }

    /// The view of vCPU `id`, which is also its APIC id.
    pub(crate) fn of_vcpu(&self, id: u8, tsc_khz: Option<u32>, tsc_deadline: bool) -> CpuId {
        let shape = Shape::new(id, self.vcpus);
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| ![TOPOLOGY, TOPOLOGY_V2, HYPERVISOR_TIMING].contains(&entry.function))
            .copied()
            .collect();
        for entry in &mut entries {
            shape.adapt(entry);
            if entry.function == FEATURES && tsc_deadline {
                entry.ecx |= ECX_TSC_DEADLINE;
            }
            if let (HYPERVISOR, Some(_)) = (entry.function, tsc_khz) {
                entry.eax = entry.eax.max(HYPERVISOR_TIMING);
            }
        }
        entries.extend(shape.levels());
        if let Some(khz) = tsc_khz {
            entries.push(kvm_cpuid_entry2 {
                function: HYPERVISOR_TIMING,
                eax: khz,
                ebx: APIC_TIMER_KHZ,
                ..Default::default()
            });
        }
        entries.truncate(KVM_MAX_CPUID_ENTRIES);
        CpuId::from_entries(&entries).unwrap_or_else(|_| unreachable!("truncated to the limit"))
    }
}

/// Where one vCPU sits among its peers.
struct Shape {
    id: u32,
    count: u32,
    /// Bits of an APIC id that tell cores apart.
    bits: u32,
}

impl Shape {
    fn new(id: u8, vcpus: u8) -> Self {
        let count = u32::from(vcpus.max(1));
        Self {
            id: u32::from(id),
            count,
            bits: count.next_power_of_two().trailing_zeros(),
        }
    }

    fn adapt(&self, entry: &mut kvm_cpuid_entry2) {
        let ids = 1 << self.bits;
        match entry.function {
            FEATURES => {
                entry.ebx = entry.ebx & 0xFFFF | ids << 16 | self.id << 24;
                entry.ecx |= ECX_HYPERVISOR;
                entry.edx &= !EDX_HYPERTHREADING;
                if self.count > 1 {
                    entry.edx |= EDX_HYPERTHREADING;
                }
            }
            // Bits 31-26: cores in the package; 25-14: who shares the cache: all the third level, none the others.
            CACHES if entry.eax & 0x1F != 0 => {
                let sharing = if entry.eax >> 5 & 7 >= 3 { ids - 1 } else { 0 };
                entry.eax = entry.eax & 0x3FFF | sharing << 14 | (ids - 1).min(63) << 26;
            }
            AMD_CACHES if entry.eax & 0x1F != 0 => {
                let sharing = if entry.eax >> 5 & 7 >= 3 { ids - 1 } else { 0 };
                entry.eax = entry.eax & 0x3FFF | sharing << 14;
            }
            AMD_SIZES => {
                entry.ecx = entry.ecx & !0xF0FF | self.bits << 12 | (self.count - 1) & 0xFF;
            }
            AMD_TOPOLOGY => {
                entry.eax = self.id;
                entry.ebx = self.id & 0xFF;
                entry.ecx = 0;
            }
            _ => {}
        }
    }

    /// Leaf 0xB: threads (one per core), cores, the end.
    fn levels(&self) -> [kvm_cpuid_entry2; 3] {
        let level = |index: u32, shift: u32, count: u32, kind: u32| kvm_cpuid_entry2 {
            function: TOPOLOGY,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: count,
            ecx: kind << 8 | index,
            edx: self.id,
            ..Default::default()
        };
        [
            level(0, 0, 1, 1),
            level(1, self.bits, self.count, 2),
            level(2, 0, 0, 0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(view: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found = |entry: &&kvm_cpuid_entry2| entry.function == function && entry.index == index;
        *view
            .as_slice()
            .iter()
            .find(found)
            .expect("the leaf is present")
    }

    fn sample(vcpus: u8) -> Cpuid {
        let entry = |function, eax| kvm_cpuid_entry2 {
            function,
            eax,
            ..Default::default()
        };
        let level3 = 3 | 3 << 5;
        Cpuid {
            entries: vec![
                entry(FEATURES, 0),
                entry(CACHES, level3),
                entry(HYPERVISOR, 1),
                entry(AMD_SIZES, 0),
            ],
            vcpus,
        }
    }

    #[test]
    fn every_vcpu_has_its_own_id_and_the_same_neighbours() {
        for (vcpus, bits) in [(1, 0), (2, 1), (3, 2), (8, 3), (64, 6)] {
            for id in 0..vcpus {
                let view = sample(vcpus).of_vcpu(id, None, false);
                assert_eq!(leaf(&view, FEATURES, 0).ebx >> 24, u32::from(id));
                assert_eq!(
                    leaf(&view, FEATURES, 0).edx & EDX_HYPERTHREADING != 0,
                    vcpus > 1
                );
                let cores = leaf(&view, TOPOLOGY, 1);
                assert_eq!(
                    (cores.eax, cores.ebx, cores.edx),
                    (bits, u32::from(vcpus), u32::from(id))
                );
                assert_eq!(leaf(&view, CACHES, 0).eax >> 14 & 0xFFF, (1 << bits) - 1);
                assert_eq!(
                    leaf(&view, AMD_SIZES, 0).ecx,
                    bits << 12 | (u32::from(vcpus) - 1)
                );
            }
        }
    }

    #[test]
    fn the_timing_leaf_is_announced_where_the_frequency_is_known() {
        let view = sample(1).of_vcpu(0, Some(2_400_000), true);
        assert_eq!(leaf(&view, HYPERVISOR, 0).eax, HYPERVISOR_TIMING);
        assert_eq!(leaf(&view, HYPERVISOR_TIMING, 0).eax, 2_400_000);
        assert_eq!(
            leaf(&view, FEATURES, 0).ecx,
            ECX_HYPERVISOR | ECX_TSC_DEADLINE
        );
        let without = sample(1).of_vcpu(0, None, false);
        assert!(
            without
                .as_slice()
                .iter()
                .all(|entry| entry.function != HYPERVISOR_TIMING)
        );
    }
}
