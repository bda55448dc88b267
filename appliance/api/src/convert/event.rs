//! Events.

use api_types::Event;
use control::model::{self, EventSubject};

/// An event as it goes over the wire.
pub fn to_wire(event: &model::Event) -> Event {
    let (subject_id, state) = match &event.subject {
        EventSubject::Instance(id, state) => (id.to_string(), state.map(model::State::name)),
        EventSubject::FirstOutput(id) | EventSubject::Charge(id) | EventSubject::CpuCredits(id) => {
            (id.to_string(), None)
        }
        EventSubject::Disk(id, state) => (id.to_string(), state.map(model::DiskState::name)),
        EventSubject::Image(id, state) => (id.to_string(), state.map(image_state)),
        EventSubject::Vpc(id) => (id.to_string(), None),
        EventSubject::Vswitch(id) => (id.to_string(), None),
        EventSubject::SecurityGroup(id) => (id.to_string(), None),
        EventSubject::DeploymentSet(id) => (id.to_string(), None),
        EventSubject::Decision(id) => (id.to_string(), None),
        EventSubject::Policy(kind) => (kind.to_string(), None),
        EventSubject::Settlement(id) => (id.to_string(), None),
        EventSubject::Invoice(id) => (id.to_string(), None),
        EventSubject::Subscription(id) => (id.to_string(), None),
        EventSubject::Account(id) => (id.to_string(), None),
        EventSubject::SpotPrice(instance_type) => (instance_type.clone(), None),
        EventSubject::SpotNotice(id) => (id.to_string(), None),
        EventSubject::Budget(name) => (name.clone(), None),
        EventSubject::Meter(resource) => (resource.clone(), None),
    };
    Event {
        sequence: event.sequence,
        at: event.at.to_string(),
        kind: event.subject.kind().to_owned(),
        subject_id,
        state: state.map(Into::into),
        message: event.message.clone(),
    }
}

fn image_state(state: model::ImageState) -> &'static str {
    super::image::state(state).as_str()
}
