//! Instances.

use crate::{
    Control, Result,
    commands::{InstanceFilter, ModifyInstance, RunInstances},
    model::{Console, Instance, State},
    use_cases::unwired,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::time::Duration;
use types::InstanceId;

impl Control {
    /// Makes instances and starts them (ECS RunInstances). Answers as soon as they are placed and on stable storage:
    /// `Pending`, or `Stopped` when they are not to be started.
    pub async fn run_instances(&self, _command: RunInstances) -> Result<Vec<Instance>> {
        unwired()
    }

    /// The instance of that id (`InvalidInstanceId.NotFound`).
    pub async fn instance(&self, _id: InstanceId) -> Result<Instance> {
        unwired()
    }

    /// The instances the filter lets through, oldest first (ECS DescribeInstances).
    pub async fn instances(&self, _filter: &InstanceFilter) -> Result<Vec<Instance>> {
        unwired()
    }

    /// Waits until the instance is in one of `states`, or `timeout` is over (`Timeout`), or it is released (`NotFound`).
    pub async fn wait_for_instance(
        &self,
        _id: InstanceId,
        _states: &[State],
        _timeout: Duration,
    ) -> Result<Instance> {
        unwired()
    }

    /// Starts a stopped instance (ECS StartInstance). `received_ns`: when the request came in, see
    /// [`Control::monotonic_ns`].
    pub async fn start_instance(
        &self,
        _id: InstanceId,
        _received_ns: Option<u64>,
    ) -> Result<Instance> {
        unwired()
    }

    /// Stops an instance (ECS StopInstance): presses the power button and gives the guest the grace period; with
    /// `force`, or after it, takes the machine away.
    pub async fn stop_instance(&self, _id: InstanceId, _force: bool) -> Result<Instance> {
        unwired()
    }

    /// Stops a running instance and starts it again (ECS RebootInstance).
    pub async fn reboot_instance(&self, _id: InstanceId, _force: bool) -> Result<Instance> {
        unwired()
    }

    /// Releases an instance (ECS DeleteInstance): a stopped one, or with `force` any. Disks with delete-with-instance
    /// go with it, the others become Available. Answers when that is on stable storage; it is gone when `instance`
    /// says `NotFound`.
    pub async fn delete_instance(&self, _id: InstanceId, _force: bool) -> Result<()> {
        unwired()
    }

    /// Changes attributes (ECS ModifyInstanceAttribute).
    pub async fn modify_instance(
        &self,
        _id: InstanceId,
        _change: ModifyInstance,
    ) -> Result<Instance> {
        unwired()
    }

    /// At most `max` bytes of console output from `offset` on (ECS GetInstanceConsoleOutput). Empty at the end.
    pub async fn console(&self, _id: InstanceId, _offset: u64, _max: usize) -> Result<Console> {
        unwired()
    }

    /// Console output from `offset` on as it comes, over stops and starts, until the instance is released.
    pub fn follow_console(
        &self,
        _id: InstanceId,
        _offset: u64,
    ) -> impl Stream<Item = Result<Console>> + Send + use<> {
        stream::empty()
    }

    /// Types into the console of a running instance.
    pub async fn console_input(&self, _id: InstanceId, _data: Bytes) -> Result<()> {
        unwired()
    }
}
