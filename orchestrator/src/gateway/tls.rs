//! TLS on the listener of callers: certificates, and connections from their handshake on.
//!
//! The private key is in the memory of this process alone. Workers are started by exec(2),
//! which leaves nothing of it, and contexts are made by workers.

use super::TlsOptions;
use super::metrics::Metrics;
use super::watch::Watch;
use crate::chain_file::{Exposure, exposure};
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::{Zeroize, Zeroizing};

/// A chain of certificates and a key have a few KiB.
const MAX_BYTES: u64 = 1 << 20;
/// What every record of a handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// What whoever speaks plain HTTP is told.
const PLAIN: &str = "this port speaks TLS: ask by https://\n";
/// Bytes that are still read from whoever is turned away, so that it finds the reason
/// and no reset.
const UNREAD: usize = 64 << 10;

/// What new connections are accepted with.
pub(super) struct Tls {
    config: RwLock<Arc<ServerConfig>>,
    options: TlsOptions,
    metrics: Arc<Metrics>,
    /// Somebody has spoken plain HTTP: it is told once, and counted each time.
    was_plain: AtomicBool,
    news: tokio::sync::Mutex<News>,
}

/// By what a reading of the files is asked for.
struct News {
    hup: Signal,
    watch: Watch,
}

/// A certificate and a key that belong together.
#[derive(Debug)]
struct Pair {
    config: Arc<ServerConfig>,
    /// The end of the certificate, after 1970, if that can be read.
    ends: Option<Duration>,
    /// What is no reason to refuse them.
    warnings: Vec<String>,
}

/// A version of HTTP that a handshake has agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreed {
    One,
    Two,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// What is wrong with them, and what to do, for people.
    pub(super) async fn start(
        options: Option<&TlsOptions>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(options) = options.cloned() else {
            return Ok(None);
        };
        let hup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
        let read = spawn_blocking(move || {
            // From before they are read: what changes meanwhile counts as changed.
            let watch = Watch::of(vec![options.cert.clone(), options.key.clone()]);
            let pair = read(&options)?;
            Ok::<_, String>((pair, watch, options))
        });
        let (pair, watch, options) = read.await.map_err(|e| e.to_string())??;
        let tls = Self {
            config: RwLock::new(Arc::clone(&pair.config)),
            options,
            metrics: Arc::clone(metrics),
            was_plain: AtomicBool::new(false),
            news: tokio::sync::Mutex::new(News { hup, watch }),
        };
        tls.tell(&pair);
        Ok(Some(Arc::new(tls)))
    }

    fn tell(&self, pair: &Pair) {
        for warning in &pair.warnings {
            log::warn!("{warning}");
        }
        self.metrics.certificate(pair.ends.map(|e| e.as_secs()));
    }

    /// Reads the files again on SIGHUP and, if they are watched, when one is another than
    /// before; for ever. A pair that is no good is refused, and the old one goes on.
    pub(super) async fn renew(&self, watched: bool) {
        // Nobody else renews.
        let mut news = self.news.lock().await;
        let News { hup, watch } = &mut *news;
        let mut asked = false;
        loop {
            let signal = match std::mem::take(&mut asked) {
                true => true,
                false => tokio::select! {
                    _ = hup.recv() => true,
                    () = watch.changed(), if watched => false,
                },
            };
            let options = self.options.clone();
            let reading = async {
                // A pair that is refused is looked at again when it changes.
                if signal {
                    watch.note().await;
                }
                let read = spawn_blocking(move || read(&options)).await;
                read.unwrap_or_else(|e| Err(e.to_string()))
            };
            // A file system that does not answer holds up no later reading.
            tokio::select! {
                pair = reading => self.take(pair),
                _ = hup.recv() => {
                    self.metrics.certificate_read("given-up");
                    log::warn!("the reading of the certificate that is under way is given up");
                    asked = true;
                }
            }
        }
    }

    fn take(&self, pair: Result<Pair, String>) {
        match pair {
            Ok(pair) => {
                // Only assignments happen under the lock.
                let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
                *config = Arc::clone(&pair.config);
                drop(config);
                self.tell(&pair);
                self.metrics.certificate_read("ok");
                log::info!("new connections get the certificate as it is now");
            }
            Err(why) => {
                self.metrics.certificate_read("refused");
                log::error!("the new certificate is refused, the old one is served on: {why}");
            }
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config).into()
    }

    /// Shakes hands, until then at most. Whoever cannot is turned away, counted and told
    /// in the log.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        until: Instant,
        from: &str,
    ) -> Option<(Stream<S>, Option<Agreed>)> {
        let acceptor = self.acceptor();
        let stream = First {
            stream,
            seen: false,
            plain: None,
        };
        let accepted = timeout_at(until, acceptor.accept(stream).into_fallible()).await;
        let (how, why, first) = match accepted {
            Ok(Ok(stream)) => {
                self.metrics.shook_hands("done");
                let agreed = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Some(Agreed::Two),
                    Some(_) => Some(Agreed::One),
                    None => None,
                };
                return Some((Stream::Tls(Box::new(stream)), agreed));
            }
            Err(_) => ("slow", "it took too long".to_owned(), None),
            Ok(Err((e, first))) => {
                let of_tls = e.get_ref().is_some_and(|e| e.is::<rustls::Error>());
                let how = match first.plain {
                    Some(_) => "plain",
                    None if of_tls => "failed",
                    None => "gone",
                };
                (how, e.to_string(), Some(first))
            }
        };
        self.metrics.shook_hands(how);
        if how == "plain" && !self.was_plain.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{from} does not speak TLS, as this port does, and is turned away; that is \
                 told once, and counted as lwc_tls_handshakes_total{{result=\"plain\"}}"
            );
        }
        log::debug!("{from}: no TLS handshake ({how}): {why}");
        if let Some(mut first) = first {
            let _ = timeout_at(until, first.leave()).await;
        }
        None
    }
}

/// A connection that has not shaken hands: nothing of it comes to the protocol unless it
/// begins as TLS does.
pub(super) struct First<S> {
    stream: S,
    /// Whether its first byte has come.
    seen: bool,
    /// That byte, if it is of something else.
    plain: Option<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> First<S> {
    /// Ends it so that the other side learns why: what it may still send is taken, for a
    /// connection that is closed on unread bytes is reset, and what was sent is lost.
    async fn leave(&mut self) -> io::Result<()> {
        // A method of HTTP is written in capitals.
        if self.plain.is_some_and(|b| b.is_ascii_uppercase()) {
            let head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
                        Content-Type: text/plain; charset=utf-8\r\nContent-Length";
            let answer = format!("{head}: {}\r\n\r\n{PLAIN}", PLAIN.len());
            self.stream.write_all(answer.as_bytes()).await?;
        }
        self.stream.shutdown().await?;
        let (mut unread, mut left) = ([0; 1024], UNREAD);
        while left > 0 {
            match self.stream.read(&mut unread).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for First<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let (false, Some(&first)) = (self.seen, buf.filled().get(before)) {
            self.seen = true;
            if first != HANDSHAKE {
                self.plain = Some(first);
                return Poll::Ready(Err(io::Error::other("this is no TLS")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for First<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection of either kind, as HTTP sees it.
pub(super) enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<First<S>>>),
}

pub(super) fn plain<S>(stream: S) -> Stream<S> {
    Stream::Plain(stream)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            // Who closes its half and has not said so by TLS is an error after all that came
            // before, and so no request that looks whole and is not; hyper reads on only once
            // it has answered.
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Reads a pair and sees that it belongs together.
fn read(options: &TlsOptions) -> Result<Pair, String> {
    let TlsOptions { cert, key } = options;
    let (certificates, text) = (cert.display(), contents(cert, "--tls-cert", false)?.0);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| {
            format!(
                "--tls-cert {certificates}: this is no whole PEM: {}",
                told(&e)
            )
        })?;
    let Some(first) = chain.first() else {
        return Err(format!(
            "--tls-cert {certificates}: there is no certificate in it; {}",
            if is_der(&text) {
                "it is DER, and PEM is needed: openssl x509 -inform der -in FILE -out FILE.pem"
            } else {
                "write the server's own and those that lead to its authority, in this order, as \
                 PEM (-----BEGIN CERTIFICATE-----)"
            }
        ));
    };
    let mut warnings = Vec::new();
    let times = validity(first);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    if let (Ok((begins, ends)), Ok(now)) = (&times, now) {
        let shown = |t: &Duration| humantime::format_rfc3339_seconds(UNIX_EPOCH + *t);
        if now > *ends {
            let ended = shown(ends);
            warnings.push(format!("--tls-cert {certificates}: it has ended on {ended}: clients will refuse it; have it renewed"));
        } else if now < *begins {
            let begins = shown(begins);
            warnings.push(format!("--tls-cert {certificates}: it begins on {begins} alone: clients will refuse it until then"));
        }
    }
    let ends = times.ok().map(|(_, ends)| ends);
    let (text, readable) = contents(key, "--tls-key", true)?;
    let key = key.display();
    if readable {
        warnings.push(format!(
            "--tls-key {key}: every user of this machine can read it; make it yours alone, \
             chmod 600 {key}"
        ));
    }
    let signing = signing_key(&text).map_err(|e| format!("--tls-key {key}: {e}"))?;
    drop(text);
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&signing)).keys_match()
    };
    if let Err(e) = fits(first) {
        return Err(match e {
            rustls::Error::InconsistentKeys(_) => format!(
                "--tls-key {key}: this is not the key of the {}certificate in {certificates}; {}",
                if chain.len() > 1 { "first " } else { "" },
                if chain.iter().skip(1).any(|c| fits(c).is_ok()) {
                    "it is that of a later one: put the server's own first"
                } else {
                    "give the two that were made together"
                }
            ),
            _ => format!("--tls-cert {certificates}: the first in it is no certificate"),
        });
    }
    let certified = CertifiedKey::new(chain, signing);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Pair {
        config: Arc::new(config),
        ends,
        warnings,
    })
}

/// What a file holds, and whether others can read it. One that is secret is refused where
/// they can write it.
fn contents(path: &Path, option: &str, secret: bool) -> Result<(Zeroizing<Vec<u8>>, bool), String> {
    let shown = path.display();
    let failed = |e: io::Error| format!("{option} {shown}: {e}");
    // A pipe that nobody writes to is opened as well, and refused below.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!(
            "{option} {shown}: this is no file, which can be read again when it changes; give one"
        ));
    }
    let exposed = exposure(path, &meta);
    if secret && exposed == Some(Exposure::Writable) {
        return Err(format!(
            "{option} {shown}: others can write it, or a folder on the way to it; make these yours \
             alone, chmod 600 {shown}"
        ));
    }
    if meta.len() > MAX_BYTES {
        return Err(format!("{option} {shown}: larger than {MAX_BYTES} bytes"));
    }
    // Room for all of it: a vector that grows leaves copies behind. One byte more shows
    // that it is larger by now.
    let mut bytes = Zeroizing::new(vec![0; meta.len() as usize + 1]);
    let mut held = 0;
    loop {
        match file.read(&mut bytes[held..]) {
            Ok(0) => break,
            Ok(n) => held += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
        if held == bytes.len() {
            return Err(format!("{option} {shown}: it changes while it is read"));
        }
    }
    bytes.truncate(held);
    Ok((bytes, exposed == Some(Exposure::Readable)))
}

/// The first private key of a text.
fn signing_key(text: &[u8]) -> Result<Arc<dyn SigningKey>, String> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
    let mut key = None;
    for section in sections {
        // Also that of an old, encrypted one, whose head is no Base64.
        let Ok((kind, der)) = section else {
            break;
        };
        key = PrivateKeyDer::from_pem(kind, der);
        if key.is_some() {
            break;
        }
    }
    let Some(mut key) = key else {
        let has = |what: &[u8]| text.windows(what.len()).any(|w| w == what);
        return Err(match () {
            () if has(b"ENCRYPTED") => {
                "it is encrypted, and nobody is there to type a password; decrypt it \
                 (openssl pkey -in FILE -out FILE.pem) and let its mode protect it"
            }
            () if is_der(text) => {
                "it is DER, and PEM is needed: openssl pkey -inform der -in FILE -out FILE.pem"
            }
            () if has(b"PRIVATE KEY-----") => "the key in it is no whole PEM",
            () => "there is no private key in it; write it as PEM (-----BEGIN PRIVATE KEY-----)",
        }
        .into());
    };
    let signing = ring::sign::any_supported_type(&key);
    key.zeroize();
    signing.map_err(|_| {
        "this kind of key is not known here: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384 \
         and Ed25519 are"
            .into()
    })
}

/// Whether this may be what PEM is wrapped around: a sequence, in ASN.1.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30)
}

/// What is wrong with PEM, without its bytes.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "an END line is missing",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        pem::Error::Base64Decode(_) => "some of it is not Base64",
        _ => "it cannot be read",
    }
}

/// From when to when a certificate holds, after 1970 (RFC 5280, 4.1).
fn validity(certificate: &[u8]) -> der::Result<(Duration, Duration)> {
    let certificate = AnyRef::from_der(certificate)?;
    let mut parts = SliceReader::new(certificate.value())?;
    let about: AnyRef<'_> = parts.decode()?;
    let mut parts = SliceReader::new(about.value())?;
    let version_or_number: AnyRef<'_> = parts.decode()?;
    if version_or_number.tag().is_context_specific() {
        let _number: AnyRef<'_> = parts.decode()?;
    }
    let _algorithm: AnyRef<'_> = parts.decode()?;
    let _issuer: AnyRef<'_> = parts.decode()?;
    let validity: AnyRef<'_> = parts.decode()?;
    let mut times = SliceReader::new(validity.value())?;
    let mut time = || -> der::Result<Duration> {
        let time: AnyRef<'_> = times.decode()?;
        Ok(match time.tag() {
            Tag::UtcTime => time.decode_as::<UtcTime>()?.to_unix_duration(),
            _ => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
        })
    };
    Ok((time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A certificate that signs itself, from one year to another.
    fn certificate(key: &KeyPair, from: i32, to: i32) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.self_signed(key).unwrap()
    }

    #[test]
    fn the_times_of_a_certificate_are_read() {
        let key = KeyPair::generate().unwrap();
        // As GeneralizedTime from 2050 on.
        for (from, to, begins, ends) in [
            (1975, 2040, 157_766_400, 2_208_988_800),
            (2049, 4096, 2_493_072_000, 67_090_118_400),
        ] {
            let certificate = certificate(&key, from, to);
            let times = validity(certificate.der()).unwrap();
            let seconds = Duration::from_secs;
            assert_eq!(times, (seconds(begins), seconds(ends)));
            // Any other bytes are an error and nothing worse.
            for at in 0..certificate.der().len() {
                let mut bytes = certificate.der().to_vec();
                assert!(validity(&bytes[..at]).is_err());
                bytes[at] ^= 0xff;
                let _ = validity(&bytes);
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said() {
        let folder = tempfile::tempdir().unwrap();
        set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let write = |name: &str, text: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let own = certificate(&key, 2020, 4000);
        let not_its = certificate(&other, 2020, 4000);
        let (pem, not_its) = (own.pem(), not_its.pem());
        let good = write("cert", pem.as_bytes());
        let good_key = write("key", key.serialize_pem().as_bytes());
        let missing = folder.path().join("missing");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let big = write("big", &vec![b'x'; 1 + MAX_BYTES as usize]);
        let broken = pem.replace("MII", "%%%");
        let cut = &pem[..pem.len() - 30];
        let text = |name, text: &str| write(name, text.as_bytes());
        let garbage = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let encrypted = key.serialize_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
        // As OpenSSL wrote them before PKCS #8.
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let unknown = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let cases: [(PathBuf, PathBuf, &[&str]); 18] = [
            (
                missing.clone(),
                good_key.clone(),
                &["--tls-cert", "missing", "No such file"],
            ),
            (
                good.clone(),
                missing,
                &["--tls-key", "missing", "No such file"],
            ),
            (
                folder.path().into(),
                good_key.clone(),
                &["--tls-cert", "no file"],
            ),
            (fifo.clone(), good_key.clone(), &["--tls-cert", "no file"]),
            (good.clone(), fifo, &["--tls-key", "no file"]),
            (big.clone(), good_key.clone(), &["--tls-cert", "larger"]),
            (
                text("empty", ""),
                good_key.clone(),
                &["--tls-cert", "no certificate"],
            ),
            (
                good_key.clone(),
                good_key.clone(),
                &["--tls-cert", "no certificate"],
            ),
            (
                write("der", own.der()),
                good_key.clone(),
                &["--tls-cert", "openssl x509"],
            ),
            (
                text("broken", &broken),
                good_key.clone(),
                &["no whole PEM", "Base64"],
            ),
            (
                text("cut", cut),
                good_key.clone(),
                &["no whole PEM", "END line"],
            ),
            (
                text("garbage", garbage),
                good_key.clone(),
                &["--tls-cert", "no certificate"],
            ),
            (good.clone(), good.clone(), &["--tls-key", "no private key"]),
            (
                good.clone(),
                write("der_key", key.serialized_der()),
                &["openssl pkey -inform der"],
            ),
            (
                good.clone(),
                text("encrypted", &encrypted),
                &["--tls-key", "is encrypted"],
            ),
            (
                good.clone(),
                text("old", old),
                &["--tls-key", "is encrypted"],
            ),
            (
                good.clone(),
                text("unknown", unknown),
                &["--tls-key", "kind of key"],
            ),
            (
                text("not_its", &not_its),
                good_key.clone(),
                &[
                    "--tls-key",
                    "not the key of the certificate",
                    "made together",
                ],
            ),
        ];
        for (cert, key, says) in cases {
            let error = read(&TlsOptions { cert, key }).unwrap_err();
            for word in says {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
        let read = |cert: &Path, key: &Path| {
            let (cert, key) = (cert.to_owned(), key.to_owned());
            read(&TlsOptions { cert, key })
        };
        // The authority's first.
        let order = text("order", &format!("{not_its}{pem}"));
        let error = read(&order, &good_key).unwrap_err();
        assert!(error.contains("put the server's own first"), "{error}");
        // A file may have both, in any order.
        let both = text("both", &format!("{}{pem}{not_its}", key.serialize_pem()));
        assert!(read(&both, &both).unwrap().warnings.is_empty());
        let pair = read(&good, &good_key).unwrap();
        assert!(pair.warnings.is_empty(), "{:?}", pair.warnings);
        assert_eq!(pair.ends, validity(own.der()).ok().map(|v| v.1));
        // What others can do to the key, if they can get there.
        let mut way = folder.path().ancestors();
        let open = way.all(|f| std::fs::metadata(f).unwrap().permissions().mode() & 1 != 0);
        set_permissions(&good_key, Permissions::from_mode(0o644)).unwrap();
        let warnings = read(&good, &good_key).unwrap().warnings.concat();
        assert_eq!(warnings.contains("every user"), open, "{warnings:?}");
        set_permissions(&good_key, Permissions::from_mode(0o606)).unwrap();
        let error = read(&good, &good_key).err().unwrap_or_default();
        assert_eq!(error.contains("others can write it"), open, "{error}");
        set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(read(&good, &good_key).unwrap().warnings.is_empty());
        // A clock may be wrong, and clients have their own.
        for (from, to, word) in [
            (1990, 2000, "it has ended on 2000-01-01"),
            (3000, 4000, "it begins on 3000-01-01"),
        ] {
            let other = text("times", &certificate(&key, from, to).pem());
            let warnings = read(&other, &good_key).unwrap().warnings;
            assert!(warnings[0].contains(word), "{warnings:?}");
        }
    }
}
