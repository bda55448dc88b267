//! VPCs, vswitches, addresses and security groups.

use crate::world::{World, gone, image, one, reach, run_one};
use control::{
    Control, ErrorKind,
    commands::{
        CreateSecurityGroup, CreateVpc, CreateVswitch, NewRule, Request, RuleSelector, RunInstances,
    },
    model::{
        Direction, InnerAccessPolicy, Peer, PortRange, Protocol, RulePolicy, RuleSpec, State, Vpc,
        Vswitch,
    },
};
use std::collections::BTreeSet;
use types::{SecurityGroupId, VpcId};

async fn vpc(control: &Control, cidr: &str) -> Vpc {
    let cidr = cidr.parse().unwrap();
    control
        .create_vpc(CreateVpc {
            request: Request::default(),
            cidr,
            name: None,
        })
        .await
        .unwrap()
}

async fn vswitch(
    control: &Control,
    vpc: VpcId,
    cidr: &str,
) -> Result<Vswitch, control::ControlError> {
    let cidr = cidr.parse().unwrap();
    control
        .create_vswitch(CreateVswitch {
            request: Request::default(),
            vpc,
            cidr,
            name: None,
        })
        .await
}

fn group(vpc: Option<VpcId>) -> CreateSecurityGroup {
    let inner_access = InnerAccessPolicy::Accept;
    CreateSecurityGroup {
        request: Request::default(),
        vpc,
        name: None,
        description: None,
        inner_access,
    }
}

fn tcp(port: u16, peer: Peer) -> RuleSpec {
    RuleSpec {
        direction: Direction::Ingress,
        priority: 1,
        policy: RulePolicy::Accept,
        protocol: Protocol::Tcp,
        ports: Some(PortRange {
            first: port,
            last: port,
        }),
        source_ports: None,
        peer,
    }
}

fn rule(spec: RuleSpec) -> NewRule {
    NewRule {
        spec,
        description: None,
    }
}

fn anywhere() -> Peer {
    Peer::Cidr("0.0.0.0/0".parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn addresses_are_given_out_until_there_are_none() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let vpc = vpc(&control, "10.0.0.0/16").await;
    let vswitch = vswitch(&control, vpc.id, "10.0.1.0/29").await.unwrap();
    assert_eq!(vswitch.available_addresses, 4);
    let on = |amount| RunInstances {
        vswitch: Some(vswitch.id),
        start: false,
        amount,
        ..one(image.id)
    };
    let fixed = RunInstances {
        private_ip: Some("10.0.1.2".parse().unwrap()),
        ..on(1)
    };
    let fixed = control.run_instances(fixed.clone()).await.unwrap()[0].clone();
    assert_eq!(fixed.private_ip.to_string(), "10.0.1.2");
    let taken = RunInstances {
        private_ip: Some(fixed.private_ip),
        ..on(1)
    };
    assert!(
        control
            .run_instances(taken)
            .await
            .unwrap_err()
            .message()
            .contains("is taken")
    );
    // Four do not fit any more: none is made.
    let error = control.run_instances(on(4)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::QuotaExceeded, "InvalidVSwitchId.IpNotEnough")
    );
    let three = control.run_instances(on(3)).await.unwrap();
    let addresses: BTreeSet<String> = three
        .iter()
        .map(|instance| instance.private_ip.to_string())
        .collect();
    assert_eq!(
        addresses,
        ["10.0.1.1", "10.0.1.3", "10.0.1.4"]
            .map(str::to_owned)
            .into()
    );
    let macs: BTreeSet<_> = three.iter().map(|instance| instance.mac).collect();
    assert_eq!(macs.len(), 3);
    assert_eq!(
        control
            .vswitch(vswitch.id)
            .await
            .unwrap()
            .available_addresses,
        0
    );
    control.delete_instance(fixed.id, false).await.unwrap();
    gone(&control, fixed.id).await;
    assert_eq!(
        control.run_instances(on(1)).await.unwrap()[0].private_ip,
        fixed.private_ip
    );
}

#[tokio::test(start_paused = true)]
async fn networks_are_judged_and_depend_on_each_other() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let error = control
        .create_vpc(CreateVpc {
            request: Request::default(),
            cidr: "8.8.0.0/16".parse().unwrap(),
            name: None,
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "InvalidCidrBlock.Malformed");
    let vpc = vpc(&control, "192.168.0.0/16").await;
    assert!(world.things().vpcs.contains_key(&vpc.id));
    let first = vswitch(&control, vpc.id, "192.168.0.0/24").await.unwrap();
    let error = vswitch(&control, vpc.id, "192.168.0.128/25")
        .await
        .unwrap_err();
    assert!(error.message().contains("overlaps"), "{error}");
    let error = vswitch(&control, VpcId::generate(99), "192.168.0.0/24")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "InvalidVpcId.NotFound");

    let run = RunInstances {
        vswitch: Some(first.id),
        ..one(image.id)
    };
    let id = control.run_instances(run).await.unwrap()[0].id;
    let instance = reach(&control, id, State::Running).await;
    let own_group = instance.security_groups[0];
    for error in [
        control.delete_vpc(vpc.id).await.unwrap_err(),
        control.delete_vswitch(first.id).await.unwrap_err(),
        control.delete_security_group(own_group).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Denied, "DependencyViolation")
        );
        assert!(error.next_step().is_some());
    }
    control.delete_instance(id, true).await.unwrap();
    gone(&control, id).await;
    control.delete_vswitch(first.id).await.unwrap();
    // The default group goes with its VPC.
    control.delete_vpc(vpc.id).await.unwrap();
    assert_eq!(control.security_groups(None).await.unwrap(), []);
    assert!(world.things().vpcs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rules_are_in_force_when_the_change_is_answered() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let made = control.create_security_group(group(None)).await.unwrap();
    let run = RunInstances {
        security_groups: vec![made.id, made.id],
        ..one(image.id)
    };
    let id = control.run_instances(run).await.unwrap()[0].id;
    let instance = reach(&control, id, State::Running).await;
    assert_eq!(instance.security_groups, [made.id]);
    let in_force = || {
        let things = world.things();
        let groups = &things.security[&instance.vpc].groups;
        groups
            .iter()
            .find(|group| group.id == made.id)
            .unwrap()
            .rules
            .iter()
            .map(|rule| rule.spec)
            .collect::<Vec<_>>()
    };
    assert_eq!(in_force(), []);
    let open = tcp(7777, anywhere());
    let changed = control
        .authorize_rules(made.id, vec![rule(open), rule(open)])
        .await
        .unwrap();
    assert_eq!((changed.rules.len(), in_force()), (1, vec![open]));
    // A rule that is there already changes nothing.
    assert_eq!(
        control
            .authorize_rules(made.id, vec![rule(open)])
            .await
            .unwrap(),
        changed
    );

    // All or none.
    let error = control
        .authorize_rules(
            made.id,
            vec![rule(tcp(1, anywhere())), rule(tcp(0, anywhere()))],
        )
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.field()),
        ("InvalidParameter", Some("rules[1]"))
    );
    let unknown = Peer::Group(SecurityGroupId::generate(99));
    let error = control
        .authorize_rules(made.id, vec![rule(tcp(1, unknown))])
        .await
        .unwrap_err();
    assert_eq!(error.code(), "InvalidSecurityGroupId.NotFound");
    assert_eq!(in_force(), [open]);

    let by_id = RuleSelector::Id(changed.rules[0].id);
    control
        .revoke_rules(made.id, &[by_id, by_id])
        .await
        .unwrap();
    assert_eq!(in_force(), []);
    control
        .authorize_rules(made.id, vec![rule(open)])
        .await
        .unwrap();
    control
        .revoke_rules(made.id, &[RuleSelector::Spec(open)])
        .await
        .unwrap();
    assert_eq!(in_force(), []);
}

#[tokio::test(start_paused = true)]
async fn groups_of_another_vpc_mean_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let other = vpc(&control, "10.0.0.0/16").await;
    let own = control.create_security_group(group(None)).await.unwrap();
    let foreign = control
        .create_security_group(group(Some(other.id)))
        .await
        .unwrap();
    let rules = vec![rule(tcp(1, Peer::Group(foreign.id)))];
    let error = control.authorize_rules(own.id, rules).await.unwrap_err();
    assert_eq!(error.code(), "InvalidSecurityGroupId.VpcMismatch");
    let run = RunInstances {
        security_groups: vec![foreign.id],
        ..one(image.id)
    };
    let error = control.run_instances(run).await.unwrap_err();
    assert_eq!(
        (error.code(), error.field()),
        (
            "InvalidSecurityGroupId.VpcMismatch",
            Some("security_groups[0]")
        )
    );

    let named = control.create_security_group(group(None)).await.unwrap();
    control
        .authorize_rules(own.id, vec![rule(tcp(1, Peer::Group(named.id)))])
        .await
        .unwrap();
    let error = control.delete_security_group(named.id).await.unwrap_err();
    assert!(error.message().contains(&own.id.to_string()), "{error}");
    control.delete_security_group(own.id).await.unwrap();
    control.delete_security_group(named.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_holds_200_rules() {
    let world = World::new();
    let control = world.start().await;
    let made = control.create_security_group(group(None)).await.unwrap();
    let rules = (1..=200).map(|port| rule(tcp(port, anywhere()))).collect();
    control.authorize_rules(made.id, rules).await.unwrap();
    let error = control
        .authorize_rules(made.id, vec![rule(tcp(201, anywhere()))])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::QuotaExceeded, "QuotaExceed.SecurityGroupRule")
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_put_in_force_says_so_and_comes_later() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let instance = run_one(&control, image.id).await;
    let id = instance.security_groups[0];
    world.fail("apply_security", 1);
    let open = tcp(9, anywhere());
    let error = control
        .authorize_rules(id, vec![rule(open)])
        .await
        .unwrap_err();
    assert!(
        error.message().contains("apply_security was made to fail"),
        "{error}"
    );
    crate::world::until(|| async {
        let things = world.things();
        let group = things.security[&instance.vpc]
            .groups
            .iter()
            .find(|group| group.id == id)
            .cloned();
        group.is_some_and(|group| group.rules.iter().any(|rule| rule.spec == open))
    })
    .await;
}
