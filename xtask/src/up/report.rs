//! What the main job measured.

use anyhow::Result;
use serde::Serialize;

use super::Output;

/// Everything, in the order it is shown. Nothing in here is assumed.
#[derive(Serialize)]
pub struct Report {
    pub instances: Vec<Instance>,
    pub disk: Disk,
    pub security_group: SecurityGroup,
    pub placement: Vec<Placement>,
    pub charges: Vec<Charge>,
    pub restart: Restart,
}

#[derive(Serialize)]
pub struct Instance {
    pub id: String,
    pub state: String,
    pub vcpus: u64,
    pub memory_mib: u64,
    pub api_to_first_guest_output_ms: f64,
    pub vmm_private_kib: u64,
}

#[derive(Serialize)]
pub struct Disk {
    pub written_mib: u64,
    pub verified: bool,
    pub engine: String,
}

#[derive(Serialize)]
pub struct SecurityGroup {
    pub allowed_port: String,
    pub denied_port: String,
    pub after_rule_added: String,
}

#[derive(Serialize)]
pub struct Placement {
    pub instance: String,
    pub policy: String,
    pub module_sha256: String,
    pub reason: String,
}

#[derive(Serialize)]
pub struct Charge {
    pub instance: String,
    pub seconds: u64,
    pub amount: String,
    pub currency: String,
    pub policy: String,
    pub module_sha256: String,
}

#[derive(Serialize)]
pub struct Restart {
    pub daemon_restarted: bool,
    pub instances_survived: u64,
}

impl Report {
    /// Prints it on standard output.
    pub fn print(&self, output: Output) -> Result<()> {
        match output {
            Output::Json => println!("{}", serde_json::to_string(self)?),
            Output::Table => self.print_table(),
        }
        Ok(())
    }

    fn print_table(&self) {
        println!("INSTANCE                STATE    VCPUS  MEMORY   FIRST OUTPUT  VMM PRIVATE");
        for i in &self.instances {
            println!(
                "{:<23} {:<8} {:>5}  {:>4} MiB  {:>9.1} ms  {:>7} KiB",
                i.id,
                i.state,
                i.vcpus,
                i.memory_mib,
                i.api_to_first_guest_output_ms,
                i.vmm_private_kib
            );
        }
        println!(
            "\nDISK            {} MiB written through {}, verified: {}",
            self.disk.written_mib, self.disk.engine, self.disk.verified
        );
        println!(
            "SECURITY GROUP  allowed port: {}, denied port: {}, after a rule was added: {}",
            self.security_group.allowed_port,
            self.security_group.denied_port,
            self.security_group.after_rule_added
        );
        println!(
            "RESTART         instances that outlived the daemon: {}",
            self.restart.instances_survived
        );
        for p in &self.placement {
            println!(
                "PLACEMENT       {}: {} ({:.12})",
                p.instance, p.reason, p.module_sha256
            );
        }
        for c in &self.charges {
            println!(
                "CHARGES         {}: {} s, {} {} by {} ({:.12})",
                c.instance, c.seconds, c.amount, c.currency, c.policy, c.module_sha256
            );
        }
    }
}
