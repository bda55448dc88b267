//! Wire types of the REST interface `/v1`: what a client sends and what a host answers, as JSON.
//!
//! Nothing in the core uses these types; `api` converts explicitly in both directions, and the command line prints
//! them as they came. Conventions, the same everywhere:
//!
//! - field names are snake_case and carry their unit (`memory_mib`, `size_gib`, `elapsed_ms`);
//! - ids are strings in ECS form (`i-…`, `d-…`, `m-…`, `sg-…`, `vpc-…`, `vsw-…`, `ds-…`, `sub-…`, `pay-…`);
//! - states are spelled as ECS spells them (`Running`, `In_use`);
//! - timestamps are RFC 3339 strings in UTC, decimals (money) are strings, so that no digit is lost;
//! - a request with a field that is not known is refused; an answer may gain fields, and clients must ignore
//!   those they don't know.
#![forbid(unsafe_code)]

mod account;
mod bill;
mod budget;
mod charge;
mod console;
mod decision;
mod deployment_set;
mod disk;
mod event;
mod host;
mod host_system;
mod image;
mod instance;
mod meter;
mod network;
mod page;
mod plugin;
mod problem;
mod quote;
mod security_group;
mod spot;
mod subscription;
mod usage;

pub use account::*;
pub use bill::*;
pub use budget::*;
pub use charge::*;
pub use console::*;
pub use decision::*;
pub use deployment_set::*;
pub use disk::*;
pub use event::*;
pub use host::*;
pub use host_system::*;
pub use image::*;
pub use instance::*;
pub use meter::*;
pub use network::*;
pub use page::*;
pub use plugin::*;
pub use problem::*;
pub use quote::*;
pub use security_group::*;
pub use spot::*;
pub use subscription::*;
pub use usage::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_request_is_enough_and_stays_small() {
        let run: RunInstances = serde_json::from_str(r#"{"image_id":"m-1"}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&run).unwrap(),
            r#"{"image_id":"m-1"}"#
        );
        let rule: NewRule = serde_json::from_str(
            r#"{"direction":"ingress","protocol":"icmp","peer_cidr":"0.0.0.0/0"}"#,
        )
        .unwrap();
        assert_eq!(
            (rule.priority, &*rule.port_range, rule.policy),
            (1, "-1/-1", RulePolicy::Accept)
        );
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        for wrong in [
            serde_json::from_str::<RunInstances>(r#"{"image_id":"m-1","vcpu":2}"#).err(),
            serde_json::from_str::<RunInstances>(r#"{"image_id":"m-1","data_disks":[{"size":1}]}"#)
                .err(),
            serde_json::from_str::<StopInstance>(r#"{"forced":true}"#).err(),
            serde_json::from_str::<NewCharge>(r#"{"type":"pay_as_you_go","limit":"1"}"#).err(),
        ] {
            assert!(wrong.unwrap().to_string().contains("unknown field"));
        }
    }

    #[test]
    fn charges_are_told_apart_by_their_type() {
        let charge = |json: &str| serde_json::from_str::<InstanceCharge>(json).unwrap();
        assert_eq!(
            charge(r#"{"type":"pay_as_you_go","new":1}"#),
            InstanceCharge::default()
        );
        let subscription = InstanceCharge::Subscription {
            subscription_id: "sub-1".into(),
        };
        let json = r#"{"type":"subscription","subscription_id":"sub-1"}"#;
        assert_eq!(charge(json), subscription);
        assert_eq!(serde_json::to_string(&subscription).unwrap(), json);
    }

    #[test]
    fn renewal_by_itself_is_never_ended_by_oversight() {
        let modify = |json: &str| serde_json::from_str::<ModifySubscription>(json);
        assert_eq!(modify(r#"{"auto_renew":null}"#).unwrap().auto_renew, None);
        let error = modify("{}").unwrap_err().to_string();
        assert!(error.contains("missing field `auto_renew`"), "{error}");
    }

    #[test]
    fn states_are_spelled_alike_on_the_wire_and_in_tables() {
        for state in InstanceState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for strategy in [
            DeploymentStrategy::Availability,
            DeploymentStrategy::LowLatency,
        ] {
            assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.as_str());
        }
        assert_eq!(
            serde_json::to_value(DiskState::InUse).unwrap(),
            DiskState::InUse.as_str()
        );
        for kind in ImagePartKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn an_answer_may_gain_fields() {
        let page: Page<StateReason> =
            serde_json::from_str(r#"{"items":[{"code":"a","message":"b","new":1}],"total":1}"#)
                .unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.next_token, None);
    }
}
