//! Admission policies of the cluster: what they refuse is told in their words, and tried again when a person asks.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Error,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use session_gateway::session::SessionId;
use tokio::time::{Duration, Instant, sleep};

use super::{OBJECTS, names, shape::starts};
use crate::support::{
    DEADLINE,
    cluster::{API, Relay},
};

/// A policy that refuses the objects of one kind, in a session's namespace alone, until it is taken away.
struct Policy {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Policy {
    async fn new(relay: &Relay, id: SessionId, group: &str, resource: &str, words: &str) -> Self {
        let name = format!("no-{resource}-{id}");
        let policies = Api::all(relay.client.clone());
        let bindings = Api::all(relay.client.clone());
        let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": id.to_string() } });
        // ConfigMaps too, which no session has: by them it is known when the policy holds.
        let rule = |group: &str, resource: &str| {
            json!({
                "apiGroups": [group], "apiVersions": ["v1"],
                "resources": [resource], "operations": ["CREATE"],
            })
        };
        let policy = json!({
            "metadata": { "name": name },
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": selector,
                    "resourceRules": [rule(group, resource), rule("", "configmaps")],
                },
                "validations": [{
                    "expression": "request.resource.resource == 'configmaps' && \
                                   !object.metadata.name.startsWith('probe')",
                    "message": words,
                }],
            },
        });
        let binding = json!({
            "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"] },
        });
        let post = PostParams::default();
        let policy = serde_json::from_value(policy).expect("a policy");
        Api::create(&policies, &post, &policy)
            .await
            .expect("it is made");
        let binding = serde_json::from_value(binding).expect("a binding");
        Api::create(&bindings, &post, &binding)
            .await
            .expect("it is made");
        Self {
            policies,
            bindings,
            name,
        }
    }

    /// Waits until the API server holds to it, or does not any more.
    async fn holds(&self, relay: &Relay, id: SessionId, holds: bool) {
        let maps = relay.within::<ConfigMap>(&id.to_string());
        let probe = json!({ "metadata": { "name": "probe" } });
        let probe: ConfigMap = serde_json::from_value(probe).expect("one");
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let begun = Instant::now();
        loop {
            match maps.create(&dry, &probe).await {
                Ok(_) if !holds => return,
                Err(Error::Api(status)) if holds && status.message.contains(&self.name) => return,
                Ok(_) | Err(Error::Api(_)) => {}
                Err(error) => panic!("no answer: {error}"),
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "the policy is not as it should be"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn remove(&self) {
        let now = DeleteParams::default();
        self.bindings
            .delete(&self.name, &now)
            .await
            .expect("it is deleted");
        self.policies
            .delete(&self.name, &now)
            .await
            .expect("it is deleted");
    }
}

#[tokio::test]
async fn what_a_policy_refuses_is_told_in_its_words_and_made_when_it_is_gone() {
    let relay = Relay::new().await;
    let gateway = relay.gateway(&[]).await;
    for (group, resource) in [
        ("", "pods"),
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("", "serviceaccounts"),
        ("networking.k8s.io", "networkpolicies"),
    ] {
        let id = SessionId::random();
        // The gateway's own namespace, as it was left by a start that broke off.
        let namespace = json!({
            "metadata": {
                "name": id.to_string(),
                "labels": {
                    "app.kubernetes.io/managed-by": "session-gateway",
                    "dev-session/uuid": id.to_string(),
                },
            },
        });
        let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
        let made = relay
            .namespaces()
            .create(&PostParams::default(), &namespace)
            .await;
        made.expect("it is made");
        let words = format!("no {resource} on Sundays");
        let policy = Policy::new(&relay, id, group, resource, &words).await;
        policy.holds(&relay, id, true).await;

        let reply = gateway.send("GET", &format!("/{id}/chat/"), API).await;
        assert_eq!(
            (reply.status.as_u16(), &*reply.code()),
            (503, "session_failed"),
            "{reply:?}"
        );
        let problem: Value = serde_json::from_slice(&reply.body).expect("a problem");
        assert_eq!(problem["reason"]["code"], "cluster_refused", "{problem}");
        let detail = problem["reason"]["output"].as_str().unwrap_or_default();
        assert!(detail.contains(&words), "{problem}");

        policy.remove().await;
        policy.holds(&relay, id, false).await;
        let retry = gateway.send("POST", &format!("/{id}/-/start"), API).await;
        assert!(retry.status.is_success(), "{retry:?}");
        starts(&gateway, id).await;
        assert_eq!(names(&relay.objects(id).await), OBJECTS, "{resource}");
    }
}
