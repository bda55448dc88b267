//! The table of programs, each with the Debian package that brings it.

use super::Purpose;
use crate::paths;

/// One program the machine must have.
pub struct Need {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
    purposes: &'static [Purpose],
}

impl Need {
    /// Whether the machine has it.
    pub fn is_there(&self) -> bool {
        paths::find_program(self.program).is_some()
    }
}

const fn need(
    program: &'static str,
    package: &'static str,
    why: &'static str,
    purposes: &'static [Purpose],
) -> Need {
    Need {
        program,
        package,
        why,
        purposes,
    }
}

const NEEDS: &[Need] = {
    use Purpose::{Build, Image, Lab, Run, Test};
    &[
        need("cc", "gcc", "links programs", &[Build]),
        need(
            "nft",
            "nftables",
            "shows and checks firewall rules",
            &[Run, Test, Lab],
        ),
        need(
            "mkfs.xfs",
            "xfsprogs",
            "makes the disk pool",
            &[Run, Test, Lab, Image],
        ),
        need("mount", "mount", "mounts the disk pool", &[Run, Test]),
        need("ip", "iproute2", "sets up networks for tests", &[Test]),
        need("git", "git", "lists the project's files", &[Test]),
        need("clang", "clang", "compiles policies in C", &[Test]),
        need("wasm-ld", "lld", "links policies in C", &[Test]),
        need(
            "swtpm",
            "swtpm",
            "a TPM in software, for disk keys sealed to it",
            &[Test, Lab],
        ),
        need(
            "busybox",
            "busybox-static",
            "user space of the emulated host and its guest",
            &[Lab],
        ),
        need("depmod", "kmod", "indexes kernel modules", &[Lab, Image]),
        need(
            "strip",
            "binutils",
            "shrinks programs for images",
            &[Lab, Image],
        ),
        need("timeout", "coreutils", "bounds the emulator's time", &[Lab]),
        need("cp", "coreutils", "copies disks", &[Lab]),
        need("openssl", "openssl", "opens a test key", &[Lab]),
        need(
            "osslsigncode",
            "osslsigncode",
            "signs for Secure Boot",
            &[Lab],
        ),
        need(
            "cryptsetup",
            "cryptsetup-bin",
            "encrypts the disk of a host",
            &[Image],
        ),
        need("dpkg-deb", "dpkg", "unpacks packages", &[Lab, Image]),
    ]
};

/// What the machine lacks for these purposes.
pub fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| need.purposes.iter().any(|p| purposes.contains(p)) && !need.is_there())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_asks_only_for_its_own() {
        let programs = |purpose| -> Vec<_> {
            NEEDS
                .iter()
                .filter(|need| need.purposes.contains(&purpose))
                .map(|need| need.program)
                .collect()
        };
        assert_eq!(programs(Purpose::Build), ["cc"]);
        assert!(programs(Purpose::Run).contains(&"nft"));
        assert!(!programs(Purpose::Run).contains(&"busybox"));
        assert!(programs(Purpose::Lab).contains(&"busybox"));
    }

    #[test]
    fn no_program_is_listed_twice() {
        let mut programs: Vec<_> = NEEDS.iter().map(|need| need.program).collect();
        programs.sort_unstable();
        let count = programs.len();
        programs.dedup();
        assert_eq!(programs.len(), count);
    }
}
