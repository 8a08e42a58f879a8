//! Requests for tests.

use std::net::{IpAddr, Ipv4Addr};
use std::{panic, thread};

use portcullis_view as host;

use crate::{Action, Flags, Phase, Request, Rule, SectionId, Verdict, find};

/// A request to try a rule on, natively, laid out by the code that hosts run.
///
/// ```
/// use portcullis_sdk::{Action, Request, Sample, Verdict, rule};
///
/// rule! {
///     name: "agents-have-names",
///     version: "1.0.0",
///     sections: [Headers],
///     request: inspect,
/// }
///
/// fn inspect(request: &Request<'_>) -> Verdict {
///     if request.header("user-agent").is_none() { Verdict::log() } else { Verdict::allow() }
/// }
///
/// # fn main() {
/// assert_eq!(Sample::get("/").judge(&RULE), Action::Log);
/// assert_eq!(Sample::get("/").header("user-agent", "Mozilla/5.0").judge(&RULE), Action::Allow);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sample {
    method: String,
    target: Vec<u8>,
    version: String,
    headers: FieldLines,
    body: Vec<u8>,
    trailers: FieldLines,
    source: IpAddr,
    source_port: u16,
    host: String,
    route: String,
    tls: Option<(String, String)>,
    response: Option<Response>,
    message: Option<Vec<u8>>,
    hook: Option<Vec<Vec<u8>>>,
    config: Option<Vec<u8>>,
}

type FieldLines = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Response {
    status: u16,
    headers: FieldLines,
    body: Vec<u8>,
}

impl Sample {
    /// A GET over HTTP/1.1 for `www.example.com` from 203.0.113.42, an address for documentation (RFC 5737), without
    /// headers.
    #[must_use]
    pub fn get(target: impl AsRef<[u8]>) -> Self {
        Self {
            method: "GET".into(),
            target: target.as_ref().into(),
            version: "HTTP/1.1".into(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            source: Ipv4Addr::new(203, 0, 113, 42).into(),
            source_port: 50_000,
            host: "www.example.com".into(),
            route: "shop/web".into(),
            tls: None,
            response: None,
            message: None,
            hook: None,
            config: None,
        }
    }

    /// A POST with this body, otherwise as [`Self::get`].
    #[must_use]
    pub fn post(target: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self { method: "POST".into(), body: body.as_ref().into(), ..Self::get(target) }
    }

    /// Sets the method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// Sets the version, such as `HTTP/2.0`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// Adds a field line.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().into();
        self
    }

    /// Adds a field line behind the body.
    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets the client's address.
    #[must_use]
    pub fn source(mut self, address: IpAddr, port: u16) -> Self {
        (self.source, self.source_port) = (address, port);
        self
    }

    /// Sets the host that is asked for, as it is sent; no header comes of it.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the route, `namespace/name`.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.route = route.into();
        self
    }

    /// Lets it come over TLS: scheme `https`, a version such as `TLSv1.3` and the server name that was asked for.
    #[must_use]
    pub fn tls(mut self, version: &str, server_name: &str) -> Self {
        self.tls = Some((version.into(), server_name.into()));
        self
    }

    /// Sets the response, without headers and body.
    #[must_use]
    pub fn response(mut self, status: u16) -> Self {
        self.response = Some(Response { status, headers: Vec::new(), body: Vec::new() });
        self
    }

    /// Adds a field line to the response, which is 200 if nothing else is set.
    #[must_use]
    pub fn response_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.a_response().headers.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets the body of the response, which is 200 if nothing else is set.
    #[must_use]
    pub fn response_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.a_response().body = body.as_ref().into();
        self
    }

    fn a_response(&mut self) -> &mut Response {
        self.response.get_or_insert_with(|| Response { status: 200, headers: Vec::new(), body: Vec::new() })
    }

    /// Sets a message of the stream that this request opened.
    #[must_use]
    pub fn message(mut self, message: impl AsRef<[u8]>) -> Self {
        self.message = Some(message.as_ref().into());
        self
    }

    /// Sets a call inside the application that serves this request.
    #[must_use]
    pub fn hook(mut self, class: &str, function: &str, arguments: &[&[u8]]) -> Self {
        let values = [class.as_bytes(), function.as_bytes()].into_iter().chain(arguments.iter().copied());
        self.hook = Some(values.map(Vec::from).collect());
        self
    }

    /// Sets the rule's configuration, JSON.
    #[must_use]
    pub fn config(mut self, json: &str) -> Self {
        self.config = Some(json.into());
        self
    }

    /// The rule's answer: that of the first phase that does not allow the request, with the sections that the rule
    /// declares and what one phase leaves for the next. State is as the module has it at the start.
    ///
    /// # Panics
    /// Where a host would tell that the rule is wrong: the configuration is refused, a section is not declared, a
    /// detail is not allowed, or the prefilter's promise is broken.
    pub fn judge(&self, rule: &Rule) -> Verdict {
        rule.check();
        let in_a_thread_of_its_own = || thread::scope(|scope| scope.spawn(|| self.run(rule)).join());
        in_a_thread_of_its_own().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    fn run(&self, rule: &Rule) -> Verdict {
        if let Some(config) = &self.config {
            let configure = rule.configure.expect("a configuration is for a rule with `configure:`");
            configure(config).unwrap_or_else(|why| panic!("the rule refuses its configuration: {why}"));
        }
        let mut carry = Vec::new();
        for phase in Phase::ALL.into_iter().filter(|phase| self.has(*phase)) {
            let Some(inspect) = rule.phase(phase) else { continue };
            let view = self.view(phase, rule.describe.laid_out(), &carry);
            let request = Request::read(&view).expect("a host writes a view");
            let verdict = inspect(&request);
            if verdict.action() != Action::Allow {
                if let Err(bad) = verdict.told().check_matches(&request) {
                    panic!("a host drops the detail of {verdict:?}: {bad}");
                }
                assert!(
                    would_run(rule, &request),
                    "the prefilter is unsound: none of its literals is in its section, and the verdict is {:?}",
                    verdict.action()
                );
                return verdict;
            }
            carry = verdict.carried().to_vec();
        }
        Verdict::allow()
    }

    const fn has(&self, phase: Phase) -> bool {
        match phase {
            Phase::Request | Phase::RequestBody => true,
            Phase::Response => self.response.is_some(),
            Phase::Message => self.message.is_some(),
            Phase::Hook => self.hook.is_some(),
        }
    }

    /// The view that a phase of a rule gets which declares these sections.
    #[must_use]
    pub fn view(&self, phase: Phase, sections: &[SectionId], carry: &[u8]) -> Vec<u8> {
        let sections: host::Sections =
            sections.iter().filter_map(|id| host::SectionId::from_number(*id as u16)).collect();
        let view = self.laid_out(phase, sections);
        let mut bytes = vec![0; view.len_of(sections, carry)];
        view.write(sections, carry, &mut bytes);
        bytes
    }

    fn laid_out(&self, phase: Phase, sections: host::Sections) -> host::View {
        let (tls_version, server_name) = match &self.tls {
            Some((version, name)) => (Some(version.as_str()), Some(name.as_str())),
            None => (None, None),
        };
        let head = host::Head {
            method: self.method.as_bytes(),
            target: &self.target,
            version: self.version.as_bytes(),
            connection: host::Connection {
                source: self.source,
                source_port: self.source_port,
                scheme: if self.tls.is_some() { "https" } else { "http" },
                host: self.host.as_bytes(),
                route: &self.route,
                tls_version,
                server_name,
            },
        };
        let mut view = host::View::new();
        view.head(&head, lines(&self.headers), sections);
        if phase == Phase::Request {
            return view;
        }
        let body = self.message.as_ref().filter(|_| phase == Phase::Message).unwrap_or(&self.body);
        view.body(body, sections);
        view.trailers(lines(&self.trailers), sections);
        if let Some(response) = self.response.as_ref().filter(|_| phase == Phase::Response) {
            view.response_head(response.status, lines(&response.headers), sections);
            view.response_body(&response.body, sections);
        }
        if let Some([class, function, arguments @ ..]) = self.hook.as_deref().filter(|_| phase == Phase::Hook)
        {
            view.hook(class, function, arguments.iter().map(Vec::as_slice), sections);
        }
        view
    }
}

fn lines(lines: &FieldLines) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
}

/// Whether a host runs the rule on this view, by the rule's prefilter.
fn would_run(rule: &Rule, request: &Request<'_>) -> bool {
    let doubtful = Flags::MALFORMED | Flags::TRUNCATED | Flags::AMBIGUOUS;
    let prefilter = rule.describe.prefilter;
    prefilter.is_empty()
        || prefilter.iter().any(|filter| match request.laid_out(filter.section) {
            None => true,
            Some(section) => {
                section.flags().has(doubtful)
                    || section.iter().flat_map(|entry| [entry.name(), entry.value()]).any(|text| {
                        filter
                            .literals
                            .iter()
                            .any(|literal| find(text.view(filter.view), literal.as_bytes()).is_some())
                    })
            }
        })
}
