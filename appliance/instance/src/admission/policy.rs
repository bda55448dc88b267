//! What an admission policy is, what counts as an answer, and what happens without one.

use super::{check_name, check_tags};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AccountId, ByteCount, Decided, ImageId, ModuleDigest, PolicyFailure, PolicyIdentity,
    Sha256Digest, check_words,
};

/// The longest reason of a refusal, in characters.
pub const MAX_REASON: usize = 64;
/// The longest sentence of a refusal, in characters.
pub const MAX_MESSAGE: usize = 256;
/// What the keys of labels that a policy adds must not begin with.
pub const RESERVED_TAGS: [&str; 2] = ["acs:", "aliyun"];

/// A disk that comes with each instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    /// Its category, such as `cloud_essd`.
    pub category: String,
    /// Its size.
    pub size: ByteCount,
}

/// A request to run instances (ECS RunInstances), as an admission policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancesRequest {
    /// Who asks.
    pub account: AccountId,
    /// Name of the instance type, such as `ecs.g6.large`.
    pub instance_type: String,
    /// Virtual CPUs of each instance.
    pub vcpus: u32,
    /// Memory of each instance.
    pub memory: ByteCount,
    /// The disks of each instance, the system disk first.
    pub disks: Vec<DiskRequest>,
    /// How many instances.
    pub count: u32,
    /// The image.
    pub image: ImageId,
    /// Their name; `None` if they get one made from their ids.
    pub name: Option<String>,
    /// Their labels.
    pub tags: BTreeMap<String, String>,
    /// The zone they must be in; `None` for any.
    pub zone: Option<String>,
    /// Whether they are preemptible.
    pub spot: bool,
    /// Whether deletion protection is on.
    pub deletion_protection: bool,
}

/// What an account has, in all states but released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Instances.
    pub instances: u32,
    /// Virtual CPUs of those, together.
    pub vcpus: u32,
    /// Memory of those, together.
    pub memory: ByteCount,
}

/// What there is to choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// Names of the zones.
    pub zones: Vec<String>,
    /// Names of the disk categories.
    pub disk_categories: Vec<String>,
}

/// What a request is let in as. What is `None` or empty stays as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// A name for instances that were asked for without one.
    pub name: Option<String>,
    /// Labels to add; none with a key that the request has, nor one that begins with one of [`RESERVED_TAGS`].
    pub add_tags: Vec<(String, String)>,
    /// Deletion protection, which may be switched on, not off, and not for preemptible instances.
    pub deletion_protection: Option<bool>,
    /// The category of all disks; one of those on offer.
    pub disk_category: Option<String>,
    /// The zone of instances that were asked for without one; one of those on offer.
    pub zone: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "admission", rename_all = "kebab-case")]
pub enum Answer {
    /// It is let in as it is.
    Admit,
    /// It is not let in.
    Refuse {
        /// Why, for programs: 1 to [`MAX_REASON`] characters of `a-z`, `0-9` and `-`.
        reason: String,
        /// Why, for the customer: a sentence of 1 to [`MAX_MESSAGE`] characters.
        message: String,
    },
    /// It is let in, changed.
    Amend(Amendment),
}

/// Decides which requests are let in, after sizes and quotas let them in.
///
/// An answer depends on nothing but the arguments and [`identity`](Self::identity).
pub trait AdmissionPolicy: Send + Sync {
    /// Name, code and parameters.
    fn identity(&self) -> PolicyIdentity;

    /// What becomes of `request`, whose account already has `holdings`.
    ///
    /// # Errors
    /// [`PolicyFailure`] when there is no usable answer.
    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Answer, PolicyFailure>;
}

/// Whether `answer` can be an answer to `request`: it changes only what may be changed, to what there is, and its texts can be shown.
///
/// # Errors
/// What is wrong with it first.
pub fn check_answer(
    request: &InstancesRequest,
    offers: &Offers,
    answer: &Answer,
) -> Result<(), String> {
    match answer {
        Answer::Admit => Ok(()),
        Answer::Refuse { reason, message } => {
            check_words("the reason of a refusal", reason, MAX_REASON)?;
            let known =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !reason.bytes().all(known) {
                return Err("the reason of a refusal must be of `a-z`, `0-9` and `-`".to_owned());
            }
            check_words("the sentence of a refusal", message, MAX_MESSAGE)
        }
        Answer::Amend(amendment) => check_amendment(request, offers, amendment),
    }
}

fn check_amendment(
    request: &InstancesRequest,
    offers: &Offers,
    amendment: &Amendment,
) -> Result<(), String> {
    if let Some(name) = &amendment.name {
        if request.name.is_some() {
            return Err("it changes the name that was asked for".to_owned());
        }
        check_name(name).map_err(|refusal| format!("it sets a name: {refusal}"))?;
    }
    check_added(request, &amendment.add_tags)?;
    match amendment.deletion_protection {
        Some(false) if request.deletion_protection => {
            return Err("it switches deletion protection off".to_owned());
        }
        Some(true) if request.spot => {
            return Err("it protects preemptible instances from deletion".to_owned());
        }
        _ => {}
    }
    if let Some(category) = &amendment.disk_category {
        check_offer("disk category", category, &offers.disk_categories)?;
    }
    if let Some(zone) = &amendment.zone {
        if request.zone.is_some() {
            return Err("it changes the zone that was asked for".to_owned());
        }
        check_offer("zone", zone, &offers.zones)?;
    }
    Ok(())
}

fn check_added(request: &InstancesRequest, added: &[(String, String)]) -> Result<(), String> {
    let mut tags = request.tags.clone();
    for (key, value) in added {
        if RESERVED_TAGS.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(format!(
                "it adds the label `{key:.64}`, whose key is reserved"
            ));
        }
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(format!(
                "it adds the label `{key:.64}`, which is there already"
            ));
        }
    }
    if added.is_empty() {
        return Ok(());
    }
    check_tags(tags.iter()).map_err(|refusal| format!("it adds labels: {refusal}"))
}

fn check_offer(what: &str, chosen: &str, offers: &[String]) -> Result<(), String> {
    if offers.iter().any(|offer| offer == chosen) {
        return Ok(());
    }
    Err(format!(
        "it sets the {what} `{chosen:.64}`, which there is not"
    ))
}

impl Amendment {
    /// `request` as it is let in. Of an amendment that passes [`check_answer`].
    #[must_use]
    pub fn apply(&self, request: &InstancesRequest) -> InstancesRequest {
        let mut amended = request.clone();
        if let Some(name) = &self.name {
            amended.name = Some(name.clone());
        }
        amended.tags.extend(self.add_tags.iter().cloned());
        if let Some(on) = self.deletion_protection {
            amended.deletion_protection = on;
        }
        if let Some(category) = &self.disk_category {
            for disk in &mut amended.disks {
                disk.category.clone_from(category);
            }
        }
        if let Some(zone) = &self.zone {
            amended.zone = Some(zone.clone());
        }
        amended
    }
}

/// The policy that is always there: every request is let in as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmitAll;

impl AdmissionPolicy for AdmitAll {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "admit-all".to_owned(),
            module_sha256: ModuleDigest::BuiltIn,
            configuration_sha256: Sha256Digest::of(b""),
        }
    }

    fn admit(
        &self,
        _: &InstancesRequest,
        _: &Holdings,
        _: &Offers,
    ) -> Result<Answer, PolicyFailure> {
        Ok(Answer::Admit)
    }
}

/// The configured policy, with [`AdmitAll`] behind it.
#[derive(Clone)]
pub struct Admitter {
    policy: Arc<dyn AdmissionPolicy>,
}

impl Admitter {
    /// Asks `policy`; where that gives no usable answer, the request is let in as it is.
    #[must_use]
    pub fn new(policy: Arc<dyn AdmissionPolicy>) -> Self {
        Self { policy }
    }

    /// Every request is let in as it is.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(Arc::new(AdmitAll))
    }

    /// The configured policy.
    #[must_use]
    pub fn identity(&self) -> PolicyIdentity {
        self.policy.identity()
    }

    /// What becomes of `request`, whose account already has `holdings`.
    #[must_use]
    pub fn decide(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Decided<Answer> {
        Decided::new(
            self.policy.identity(),
            self.policy.admit(request, holdings, offers),
            |answer| check_answer(request, offers, answer),
            || (AdmitAll.identity(), Answer::Admit),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::FailureKind;

    fn request() -> InstancesRequest {
        InstancesRequest {
            account: "team-a".parse().unwrap(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: ByteCount::from_gib(8),
            disks: vec![DiskRequest {
                category: "cloud_ssd".to_owned(),
                size: ByteCount::from_gib(40),
            }],
            count: 1,
            image: ImageId::generate(1),
            name: None,
            tags: [("team".to_owned(), "a".to_owned())].into(),
            zone: None,
            spot: false,
            deletion_protection: false,
        }
    }

    fn offers() -> Offers {
        Offers {
            zones: vec!["zone-a".to_owned()],
            disk_categories: vec!["cloud_essd".to_owned()],
        }
    }

    fn tag(key: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), "x".to_owned())]
    }

    /// Always the same answer.
    struct Says(Answer);

    impl AdmissionPolicy for Says {
        fn identity(&self) -> PolicyIdentity {
            PolicyIdentity {
                name: "says".to_owned(),
                ..AdmitAll.identity()
            }
        }

        fn admit(
            &self,
            _: &InstancesRequest,
            _: &Holdings,
            _: &Offers,
        ) -> Result<Answer, PolicyFailure> {
            Ok(self.0.clone())
        }
    }

    fn refused(request: &InstancesRequest, amendment: Amendment, said: &str) {
        let error = check_answer(request, &offers(), &Answer::Amend(amendment)).unwrap_err();
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn an_amendment_changes_what_was_left_open_and_nothing_else() {
        let amendment = Amendment {
            name: Some("web".to_owned()),
            add_tags: tag("cost-centre"),
            deletion_protection: Some(true),
            disk_category: Some("cloud_essd".to_owned()),
            zone: Some("zone-a".to_owned()),
        };
        let answer = Answer::Amend(amendment.clone());
        assert_eq!(check_answer(&request(), &offers(), &answer), Ok(()));
        let amended = amendment.apply(&request());
        assert_eq!(amended.name.as_deref(), Some("web"));
        assert_eq!(amended.tags.len(), 2);
        assert!(amended.deletion_protection);
        assert_eq!(amended.disks[0].category, "cloud_essd");
        assert_eq!(amended.disks[0].size, ByteCount::from_gib(40));
        assert_eq!(amended.zone.as_deref(), Some("zone-a"));
        assert_eq!(Amendment::default().apply(&request()), request());
    }

    #[test]
    fn what_was_asked_for_is_not_changed() {
        let mut asked = request();
        asked.name = Some("mine".to_owned());
        asked.zone = Some("zone-a".to_owned());
        asked.deletion_protection = true;
        let none = Amendment::default;
        let name = |name: &str| Amendment {
            name: Some(name.to_owned()),
            ..none()
        };
        let zone = |zone: &str| Amendment {
            zone: Some(zone.to_owned()),
            ..none()
        };
        let protect = |on| Amendment {
            deletion_protection: Some(on),
            ..none()
        };
        let tags = |add_tags| Amendment { add_tags, ..none() };
        let category = Amendment {
            disk_category: Some("floppy".to_owned()),
            ..none()
        };
        let spot = InstancesRequest {
            spot: true,
            ..request()
        };
        refused(&asked, name("other"), "changes the name");
        refused(&asked, zone("zone-a"), "changes the zone");
        refused(&asked, protect(false), "protection off");
        refused(&spot, protect(true), "preemptible");
        refused(&request(), name(&"x".repeat(129)), "129 characters");
        refused(
            &request(),
            zone("zone-z"),
            "zone `zone-z`, which there is not",
        );
        refused(&request(), category, "category `floppy`");
        refused(
            &request(),
            tags(tag("team")),
            "`team`, which is there already",
        );
        refused(&request(), tags(tag("acs:rm:x")), "whose key is reserved");
        refused(&request(), tags(tag("aliyun-x")), "whose key is reserved");
        refused(&request(), tags(tag("")), "0 characters");
        let many = (0..20).map(|n| (format!("key-{n}"), String::new()));
        refused(&request(), tags(many.collect()), "21 labels");
    }

    #[test]
    fn a_refusal_that_cannot_be_shown_is_no_answer_and_the_request_is_let_in() {
        let refuse = |reason: &str, message: &str| Answer::Refuse {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let decide = |answer: Answer| {
            let admitter = Admitter::new(Arc::new(Says(answer)));
            admitter.decide(&request(), &Holdings::default(), &offers())
        };
        let good = refuse("too-large", "Nobody needs that much.");
        let decided = decide(good.clone());
        assert_eq!((decided.answer, decided.fallback), (good, None));
        for (answer, said) in [
            (refuse("", "Why?"), "reason of a refusal has 0"),
            (refuse("Too large", "Why?"), "must be of `a-z`"),
            (refuse("large", ""), "sentence of a refusal has 0"),
            (refuse("large", "two\nlines"), "control characters"),
            (refuse("large", &"x".repeat(257)), "257 characters"),
        ] {
            let decided = decide(answer);
            assert_eq!(decided.answer, Answer::Admit);
            assert_eq!(decided.policy.name, "admit-all");
            let failure = decided.fallback.unwrap();
            assert_eq!(failure.kind, FailureKind::InvalidAnswer);
            assert!(failure.message.contains(said), "{failure}");
        }
    }
}
