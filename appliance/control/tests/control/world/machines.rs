//! Machines that are entries in a map.

use super::{Asked, Guest, World};
use async_trait::async_trait;
use bytes::Bytes;
use control::ports::{
    ConsoleOutput, Machine, MachineEvent, MachineEventKind, MachineExit, MachineSpec, Machines,
    PortError, PortErrorKind, PortResult,
};
use std::{io::Read, time::Duration};
use tokio::sync::mpsc::{self, error::TrySendError};
use types::InstanceId;

fn no_machine(instance: InstanceId) -> PortError {
    PortError::new(
        PortErrorKind::NotFound,
        format!("{instance} has no machine"),
    )
}

#[async_trait]
impl Machines for World {
    async fn start(&self, mut spec: MachineSpec) -> PortResult<Machine> {
        self.may_hang("start").await;
        let mut kernel = Vec::new();
        spec.kernel.read_to_end(&mut kernel).unwrap();
        let at_ns = control::ports::Clock::monotonic_ns(self);
        let mut things = self.call("start")?;
        assert!(
            !things.machines.contains_key(&spec.instance),
            "started twice"
        );
        let interface = spec.interfaces[0].id;
        assert!(
            things.vpcs.values().flatten().any(|id| *id == interface),
            "its tap is gone"
        );
        for disk in &spec.disks {
            assert_eq!(things.disks.get(&disk.id), Some(&disk.size));
        }
        things.next_pid += 1;
        let machine = Machine {
            instance: spec.instance,
            run: spec.run,
            pid: things.next_pid,
            first_output_ns: None,
        };
        things.machines.insert(spec.instance, machine.clone());
        things.shares.insert(spec.instance, spec.cpu);
        things.cpu_used.retain(|(id, _), _| *id != spec.instance);
        things
            .cpu_used
            .insert((spec.instance, spec.run), Duration::ZERO);
        let asked = Asked {
            run: spec.run,
            cmdline: spec.cmdline,
            kernel,
            disks: spec.disks.iter().map(|disk| (disk.id, disk.size)).collect(),
        };
        things.asked.insert(spec.instance, asked);
        if !things.silent {
            things
                .consoles
                .entry(spec.instance)
                .or_default()
                .extend(b"hello\n");
            let kind = MachineEventKind::FirstOutput { at_ns };
            let event = MachineEvent {
                instance: spec.instance,
                run: spec.run,
                kind,
            };
            let told = things.events.as_ref().unwrap().try_send(event);
            // A daemon that ends while it starts a machine does not want to know any more.
            assert!(!matches!(told, Err(TrySendError::Full(_))));
        }
        if things.dies_at_once {
            things.machines.remove(&spec.instance);
            let event = MachineEvent {
                instance: spec.instance,
                run: spec.run,
                kind: MachineEventKind::Exited(MachineExit::Signal(9)),
            };
            things.events.as_ref().unwrap().try_send(event).unwrap();
        }
        Ok(machine)
    }

    async fn adopt(&self) -> PortResult<Vec<Machine>> {
        let (sender, ended) = {
            let mut things = self.call("adopt")?;
            (things.events.clone(), std::mem::take(&mut things.ended))
        };
        // More than the channel holds, perhaps: somebody listens meanwhile.
        for event in ended {
            sender.as_ref().unwrap().send(event).await.unwrap();
        }
        Ok(self.things().machines.values().cloned().collect())
    }

    async fn power_button(&self, instance: InstanceId) -> PortResult<()> {
        let mut things = self.call("power_button")?;
        if things.guest == Guest::Ignores {
            return things
                .machines
                .contains_key(&instance)
                .then_some(())
                .ok_or_else(|| no_machine(instance));
        }
        let machine = things
            .machines
            .remove(&instance)
            .ok_or_else(|| no_machine(instance))?;
        let kind = MachineEventKind::Exited(MachineExit::PowerOff);
        let event = MachineEvent {
            instance,
            run: machine.run,
            kind,
        };
        things.events.as_ref().unwrap().try_send(event).unwrap();
        Ok(())
    }

    async fn kill(&self, instance: InstanceId) -> PortResult<()> {
        let mut things = self.call("kill")?;
        if let Some(machine) = things.machines.remove(&instance) {
            let kind = MachineEventKind::Exited(MachineExit::Killed);
            let event = MachineEvent {
                instance,
                run: machine.run,
                kind,
            };
            things.events.as_ref().unwrap().try_send(event).unwrap();
        }
        Ok(())
    }

    async fn console_input(&self, instance: InstanceId, data: Bytes) -> PortResult<()> {
        let mut things = self.call("console_input")?;
        if !things.machines.contains_key(&instance) {
            return Err(no_machine(instance));
        }
        things.consoles.entry(instance).or_default().extend(&data);
        Ok(())
    }

    async fn console_output(
        &self,
        instance: InstanceId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> PortResult<ConsoleOutput> {
        let read = || {
            let things = self.things();
            let console = things.consoles.get(&instance).cloned().unwrap_or_default();
            let from = usize::try_from(offset).unwrap().min(console.len());
            Bytes::copy_from_slice(&console[from..console.len().min(from + max)])
        };
        let mut data = read();
        if data.is_empty() && !wait.is_zero() {
            tokio::time::sleep(wait).await;
            data = read();
        }
        Ok(ConsoleOutput { offset, data })
    }

    async fn forget(&self, instance: InstanceId) -> PortResult<()> {
        let mut things = self.call("forget")?;
        things.consoles.remove(&instance);
        things.forgotten.insert(instance);
        Ok(())
    }

    fn running(&self) -> Vec<InstanceId> {
        self.things().machines.keys().copied().collect()
    }

    fn events(&self) -> mpsc::Receiver<MachineEvent> {
        let (sender, receiver) = mpsc::channel(1024);
        self.things().events = Some(sender);
        receiver
    }
}
