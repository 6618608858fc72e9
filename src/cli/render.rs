//! `session-gateway render`.

use clap::Args;

use super::{Failure, Settings, print};
use crate::session::SessionId;
use crate::settings::yaml;
use crate::spawner::kubernetes::Template;

/// Print the objects that a session on Kubernetes is made of, as YAML
///
/// Nothing is asked of a cluster: what the gateway finds out there, such as its own address for the NetworkPolicy, is
/// left out unless the configuration says it, and copied Secrets are not printed. Project, user
/// and profile are the defaults of the configuration; --set project.id=7,profile=large sets others.
#[derive(Debug, Args)]
pub(super) struct Render {
    #[command(flatten)]
    settings: Settings,

    /// The session, a UUID
    #[arg(value_name = "UUID")]
    id: SessionId,
}

impl Render {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Nobody is served by it, so nobody need be asked who they are.
        let sets = ["spawner=kubernetes", "auth.none_is_fine=true"];
        let config = self.settings.load(sets.map(str::to_owned))?;
        let profile = &config.plan.profile;
        let template = Template {
            config: config.kubernetes.by(profile).expect("it was checked"),
            services: &config.services,
            gateway: &[],
        };
        let objects = template.objects(self.id, &config.plan);
        let documents = objects.documents();
        let documents: Vec<String> = documents.iter().map(yaml::text).collect();
        print(&documents.join("---\n"))
    }
}
