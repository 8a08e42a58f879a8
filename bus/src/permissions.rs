//! Who may say and hear what: the authorization block of a bundled server.

use portcullis_crds::bus::{DESIRED_STREAM, MODULES_STREAM, Subjects};

/// Prefix of the operator's reply subjects.
pub const OPERATOR_INBOX: &str = "_INBOX_portcullis_operator";
/// Prefix of the agents' reply subjects.
pub const AGENT_INBOX: &str = "_INBOX_portcullis_agent";

/// The `authorization` block of nats-server's configuration for these two public nkeys.
///
/// Agents cannot publish under `portcullis.desired` or `portcullis.module`, and read nothing but the
/// desired state and modules of their cluster; they may answer what they are asked. Nobody else gets in.
pub fn server_authorization(cluster: &str, operator_public: &str, agent_public: &str) -> String {
    let subjects = Subjects::new(cluster);
    let list =
        |subjects: &[String]| subjects.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", ");
    let operator_publish =
        list(&[subjects.all_desired(), subjects.all_modules(), subjects.all_recalls(), "$JS.API.>".into()]);
    let operator_subscribe = list(&[subjects.all_reports(), format!("{OPERATOR_INBOX}.>")]);
    let reads = [DESIRED_STREAM, MODULES_STREAM]
        .into_iter()
        .flat_map(|stream| [format!("$JS.API.STREAM.INFO.{stream}"), format!("$JS.API.DIRECT.GET.{stream}")]);
    let agent_publish = list(&reads.chain([subjects.all_reports()]).collect::<Vec<_>>());
    let agent_subscribe =
        list(&[subjects.all_deployed(), subjects.all_recalls(), format!("{AGENT_INBOX}.>")]);
    format!(
        r#"authorization {{
  users: [
    {{
      nkey: "{operator_public}"
      permissions: {{
        publish: {{ allow: [{operator_publish}] }}
        subscribe: {{ allow: [{operator_subscribe}] }}
      }}
    }}
    {{
      nkey: "{agent_public}"
      permissions: {{
        publish: {{ allow: [{agent_publish}] }}
        subscribe: {{ allow: [{agent_subscribe}] }}
        allow_responses: {{ max: 1, expires: "10s" }}
      }}
    }}
  ]
}}
"#
    )
}
