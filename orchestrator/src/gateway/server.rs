//! The gateway's own life: listening, SIGHUP, SIGTERM.

use super::budget::{Budgets, Holder, Limits};
use super::circuit::Circuits;
use super::descriptors::Connections;
use super::generation::{Generation, Plan, WorkerTasks};
use super::http::ListenerKind;
use super::http::connection::serve_connection;
use super::listener::{Caller, Listeners, Place, is_of_the_connection};
use super::metrics::Metrics;
use super::nats::Endpoints;
use super::otlp::Spans;
use super::threads::Threads;
use super::tls::Tls;
use super::watch::Watch;
use super::{Gateway, Loaded, Loader, Notes, Options, add_functions};
use crate::build::Stop;
use crate::chain_file::Origin;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long answers may take to leave once all are made.
const FLUSH: Duration = Duration::from_secs(1);
/// How long idle workers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves what was loaded `first`, and what is loaded later, until SIGTERM or SIGINT.
/// `ready` is told where callers, and where operators, find it once requests are welcome.
/// True when every request was served before the end.
///
/// # Errors
/// What keeps it from starting, for people.
pub async fn serve(
    options: Options,
    first: Loaded,
    load: Arc<Loader>,
    ready: impl FnOnce(&[Place], &[Place]),
) -> Result<bool, String> {
    serve_noting(options, first, load, ready, None).await
}

/// The same for a developer: the page shows what is noted, too.
///
/// # Errors
/// As above.
pub async fn serve_noting(
    options: Options,
    first: Loaded,
    load: Arc<Loader>,
    ready: impl FnOnce(&[Place], &[Place]),
    notes: Option<Arc<Notes>>,
) -> Result<bool, String> {
    let text = |e: io::Error| e.to_string();
    // No task and no thread of ours makes files by now.
    let callers = Listeners::bind(&options.listen)?;
    let admin = Listeners::bind(&options.admin)?;
    let places = (callers.places(), admin.places());
    let mut hup = signal(SignalKind::hangup()).map_err(text)?;
    let mut term = signal(SignalKind::terminate()).map_err(text)?;
    let mut int = signal(SignalKind::interrupt()).map_err(text)?;
    let spans = match options.otlp.clone() {
        // The SDK's client is a blocking one.
        Some(url) => Some(Arc::new(
            spawn_blocking(move || Spans::to(&url))
                .await
                .map_err(|e| e.to_string())??,
        )),
        None => None,
    };
    let nats = match &options.nats {
        Some(nats) => Some(super::nats::connect(nats).await?),
        None => None,
    };
    // Before there are workers, which have the same limit.
    let connections = Connections::at_most(options.connections, options.workers_max);
    let threads = Threads::start(options.pin).map_err(|e| format!("starting threads: {e}"))?;
    let metrics = Arc::new(Metrics::new());
    let tls = tokio::select! {
        tls = Tls::start(options.tls.as_ref(), &metrics) => tls?,
        _ = term.recv() => return Ok(true),
        _ = int.recv() => return Ok(true),
    };
    let (generation, mut tasks, mut watch) = tokio::select! {
        launched = launch(&options, first, &threads, Arc::clone(&metrics), spans.clone()) => launched?,
        _ = term.recv() => return Ok(true),
        _ = int.recv() => return Ok(true),
    };
    let circuits = Circuits::new(options.circuit, options.circuit_pause);
    let budgets = Budgets::new(Limits {
        body_bytes: options.body_bytes,
        connections: options.address_connections,
        requests: options.address_requests,
    });
    let gateway = Arc::new(Gateway {
        circuits: Arc::new(circuits),
        budgets,
        notes,
        options,
        generation: RwLock::new(generation),
        metrics,
        spans,
        nats,
        draining: AtomicBool::new(false),
        given_up: watch::Sender::new(false),
        in_flight: AtomicUsize::new(0),
        all_answered: Notify::new(),
    });
    // True once connections are to end; closed once all have.
    let ending = watch::Sender::new(false);
    let public = listen(
        Arc::clone(&gateway),
        ListenerKind::Public,
        connections.callers,
        callers,
        tls.as_ref(),
        &threads,
        &ending,
    );
    let operators = listen(
        Arc::clone(&gateway),
        ListenerKind::Admin,
        connections.operators,
        admin,
        None,
        &threads,
        &ending,
    );
    let renewing = async {
        match &tls {
            Some(tls) => tls.renew(gateway.options.watch).await,
            None => std::future::pending().await,
        }
    };
    let mut listening = Box::pin(async { tokio::join!(public, operators, renewing) });
    let mut endpoints = Endpoints::start(&gateway).await?;
    ready(&places.0, &places.1);
    // Old generations that still serve what they took.
    let mut old: Vec<(Arc<Generation>, WorkerTasks)> = Vec::new();
    loop {
        let reload = async {
            let watched = gateway.options.watch;
            let mut signal = tokio::select! {
                _ = hup.recv() => true,
                () = watch.changed(), if watched => false,
            };
            // A reading that hangs, or that nobody wants any more, is given up for the
            // next one.
            let new = loop {
                log::info!(
                    "{}: reading the chain file again",
                    match signal {
                        true => "SIGHUP",
                        false => "a file has changed",
                    }
                );
                let read = async {
                    // A file that is refused is looked at again when it changes.
                    if signal {
                        watch.note().await;
                    }
                    let reading = reload(&gateway, &load, &threads);
                    tokio::pin!(reading);
                    tokio::select! {
                        new = &mut reading => Some(new),
                        () = watch.changed(), if watched => None,
                    }
                };
                signal = tokio::select! {
                    biased;
                    new = read => match new {
                        Some(new) => break new,
                        None => false,
                    },
                    _ = hup.recv() => true,
                };
                gateway.metrics.reloaded("given-up");
                log::warn!("the reading that is under way is given up");
            };
            new.map(|(generation, tasks, next)| {
                watch = next;
                (generation, tasks)
            })
        };
        tokio::select! {
            _ = &mut listening => {}
            _ = term.recv() => break,
            _ = int.recv() => break,
            new = reload => {
                if let Some((generation, new)) = new {
                    // The new one listens before the old one stops.
                    let old_endpoints = match Endpoints::start(&gateway).await {
                        Ok(next) => std::mem::replace(&mut endpoints, next),
                        Err(e) => {
                            log::error!("{e}; the old chains are offered on");
                            None
                        }
                    };
                    if let Some(old) = old_endpoints {
                        old.stop().await;
                    }
                    old.retain_mut(|(_, tasks)| {
                        while tasks.try_join_next().is_some() {}
                        !tasks.is_empty()
                    });
                    old.push((generation, std::mem::replace(&mut tasks, new)));
                }
            }
        }
    }
    old.push((gateway.generation(), tasks));

    // Other nodes get what comes from now on.
    if let Some(endpoints) = endpoints {
        endpoints.stop().await;
    }
    gateway.draining.store(true, Ordering::Release);
    let limit = Instant::now() + gateway.options.drain;
    log::info!(
        "draining: at most {}",
        humantime::format_duration(gateway.options.drain)
    );
    let served = tokio::select! {
        _ = &mut listening => false,
        done = timeout_at(limit, all_answered(&gateway)) => done.is_ok(),
        // Asked twice: at once.
        _ = term.recv() => false,
        _ = int.recv() => false,
    };
    if !served {
        let left = gateway.in_flight.load(Ordering::Acquire);
        log::warn!("{left} requests were not served in time; each is told so");
        for (generation, _) in &old {
            generation.abort();
        }
        // What is in no worker and no queue: bodies on their way, calls elsewhere.
        gateway.given_up.send_replace(true);
        let _ = timeout(FLUSH, all_answered(&gateway)).await;
    }
    for (generation, _) in &old {
        generation.queues.drain();
    }
    drop(listening);
    if let Some(client) = &gateway.nats {
        super::nats::leave(client).await;
    }
    ending.send_replace(true);
    let _ = timeout(FLUSH, ending.closed()).await;
    for (_, mut tasks) in old {
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            // A worker that is just being started, or will not end.
            tasks.shutdown().await;
        }
    }
    let _ = spawn_blocking(move || gateway.spans.as_deref().map(Spans::close)).await;
    Ok(served)
}

/// Returns when no request is in flight.
async fn all_answered(gateway: &Gateway) {
    loop {
        let all_answered = gateway.all_answered.notified();
        tokio::pin!(all_answered);
        all_answered.as_mut().enable();
        if gateway.in_flight.load(Ordering::Acquire) == 0 {
            return;
        }
        all_answered.await;
    }
}

/// Loads the chain file again.
async fn load_again(options: &Options, load: Arc<Loader>) -> Result<Loaded, String> {
    // Compilers run; requests go on meanwhile. Whoever gives this up ends them.
    let stop = StopAtEnd(Stop::default());
    let (path, until) = (options.file.clone(), stop.0.clone());
    let loaded = spawn_blocking(move || Loaded::by(&path, |read| load(&until, read)));
    let loaded = loaded.await;
    loaded.map_err(|e| format!("loading the chain file: {e}"))?
}

/// Starts the workers of what was loaded.
async fn launch(
    options: &Options,
    loaded: Loaded,
    threads: &Threads,
    metrics: Arc<Metrics>,
    spans: Option<Arc<Spans>>,
) -> Result<(Arc<Generation>, WorkerTasks, Watch), String> {
    let Loaded {
        mut file,
        built,
        watch,
    } = loaded;
    let target = options.target.as_ref();
    target.map_or(Ok(()), |t| t.check(&file))?;
    if options.nats.is_none() {
        let mut used = file.chains.keys().flat_map(|c| file.functions_of(c));
        let elsewhere = used.find_map(|f| {
            let Origin::Remote(subject) = &file.functions[f].origin else {
                return None;
            };
            Some((f, subject))
        });
        if let Some((function, subject)) = elsewhere {
            return Err(format!(
                "function {function:?} runs elsewhere, at {subject}: say --nats URL"
            ));
        }
    }
    if options.functions || target.is_some() {
        add_functions(&mut file);
    }
    let plan = Plan {
        file,
        built,
        workers: options.workers,
        most: options.workers_max,
        idle: options.workers_idle,
        queue: options.queue,
        options: options.worker_options.clone(),
    };
    let (generation, tasks) = Generation::launch(plan, threads, metrics, spans).await?;
    Ok((generation, tasks, watch))
}

/// Ends a build once nobody waits for it any more.
struct StopAtEnd(Stop);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Replaces the generation; returns the old one, the new one's tasks and what to watch
/// from now on. A file that is no good is refused and all stays as it is.
async fn reload(
    gateway: &Arc<Gateway>,
    load: &Arc<Loader>,
    threads: &Threads,
) -> Option<(Arc<Generation>, WorkerTasks, Watch)> {
    let new = async {
        let loaded = load_again(&gateway.options, Arc::clone(load)).await?;
        let metrics = Arc::clone(&gateway.metrics);
        let spans = gateway.spans.clone();
        launch(&gateway.options, loaded, threads, metrics, spans).await
    };
    match new.await {
        Ok((generation, tasks, watch)) => {
            let mut current = gateway
                .generation
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *current, generation);
            drop(current);
            old.queues.drain();
            gateway.metrics.reloaded("ok");
            if let Some(notes) = &gateway.notes {
                notes.taken();
            }
            log::info!("the new chain file is served");
            Some((old, tasks, watch))
        }
        Err(why) => {
            gateway.metrics.reloaded("refused");
            if let Some(notes) = &gateway.notes {
                notes.refused(&why);
            }
            log::error!("the new chain file is refused, the old one is served on: {why}");
            None
        }
    }
}

/// Accepts connections for ever.
async fn listen(
    gateway: Arc<Gateway>,
    kind: ListenerKind,
    most: usize,
    mut listeners: Listeners,
    tls: Option<&Arc<Tls>>,
    threads: &Threads,
    ending: &watch::Sender<bool>,
) {
    let room = Arc::new(Semaphore::new(most));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listeners.accept().await {
            Ok((stream, caller)) => {
                // Operators are not counted: they have to get through.
                let peer = match kind {
                    ListenerKind::Admin => None,
                    ListenerKind::Public => match gateway.budgets.connect(Holder::of(caller)) {
                        Some(connected) => Some(connected),
                        None => {
                            log::debug!("{caller} has too many connections");
                            continue;
                        }
                    },
                };
                threads.next().spawn(serve_connection(
                    Arc::clone(&gateway),
                    kind,
                    stream,
                    // Of what is no address the file system says who hears.
                    tls.filter(|_| matches!(caller, Caller::Address(_)))
                        .map(|tls| (Arc::clone(tls), caller)),
                    peer,
                    ending.subscribe(),
                    permit,
                ));
            }
            Err(e) if is_of_the_connection(&e) => log::debug!("accepting a connection: {e}"),
            Err(e) => {
                // Of us: no descriptors, say.
                log::warn!("accepting a connection: {e}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
