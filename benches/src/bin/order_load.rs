//! Places orders over HTTP on a running shop, or checks them out whole, and says how many per second, and how long each took.
//!
//! `order_load [BASE_URL] [CONNECTIONS] [SECONDS] [PRODUCTS] [pay]`, with the shop's `ADMIN_EMAIL` and `ADMIN_PASSWORD` in the
//! environment. Start the shop with `RATE_LIMIT_PROFILE=off`. Each connection is one thread and one buyer: it places an
//! order, reads the whole answer and places the next, each with an Idempotency-Key of its own. An order is counted when
//! its `201` has been read; with `pay`, when that of its payment has. Any other answer is counted apart, and the run fails
//! when there was one.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process, thread,
    time::{Duration, Instant, SystemTime},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// People to sign in as; a buyer of a real shop has more than one tab, and each registration costs a password hash.
const BUYERS_MAX: usize = 8;
/// More than any run can sell.
const STOCK_PER_PRODUCT: u64 = 1_000_000;
/// No answer within this is a failure.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Orders that take longer than this count as this long.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// The orders placed before the clock starts, on each connection: entities wake, tokens are verified.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (connections, seconds, products) = (number(64)?, number(10)?, number(10)?);
    let pays = match arguments.next().as_deref() {
        None => false,
        Some("pay") => true,
        Some(other) => return Err(format!("the last argument is pay or nothing, not {other}").into()),
    };
    let address = base.trim_start_matches("http://").trim_end_matches('/').to_owned();

    let run = Run::prepare(&address, connections.min(BUYERS_MAX), products, pays)?;
    let measured = Duration::from_secs(seconds as u64);
    let started = Instant::now();
    let buyers: Vec<_> = (0..connections)
        .map(|index| {
            let (run, address) = (run.clone(), address.clone());
            thread::spawn(move || run.buy(&address, index, started + WARM_UP, measured))
        })
        .collect();
    let mut placed = latencies()?;
    let mut others = BTreeMap::<u16, u64>::new();
    for buyer in buyers {
        let (its_placed, its_others) = buyer.join().map_err(|_| "a buyer panicked")??;
        placed.add(its_placed)?;
        for (status, count) in its_others {
            *others.entry(status).or_default() += count;
        }
    }
    let milliseconds = |quantile| placed.value_at_quantile(quantile) as f64 / 1_000.0;
    let what = if pays { "complete checkouts/s" } else { "placed orders/s" };
    println!("{what}: {:.0} ({} in {seconds} s)", placed.len() as f64 / measured.as_secs_f64(), placed.len());
    println!("connections: {connections}, products: {products}");
    println!("latency ms: p50 {:.2}, p99 {:.2}, most {:.2}", milliseconds(0.5), milliseconds(0.99), milliseconds(1.0));
    if !others.is_empty() {
        return Err(format!("answers other than 201, by status: {others:?}").into());
    }
    Ok(())
}

fn latencies() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?)
}

/// What all buyers share.
#[derive(Clone)]
struct Run {
    /// Sets this run's e-mail addresses and keys apart from every other run's.
    name: String,
    tokens: Vec<String>,
    products: Vec<String>,
    /// Whether each order is paid for at once.
    pays: bool,
}

impl Run {
    fn prepare(address: &str, buyers: usize, products: usize, pays: bool) -> Result<Self, Failure> {
        let mut shop = Connection::open(address)?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let name = format!("{}-{}", since_epoch.as_millis(), process::id());
        let admin = shop.expect(
            200,
            "/api/v1/users/login",
            "",
            &json!({ "email": setting("ADMIN_EMAIL")?, "password": setting("ADMIN_PASSWORD")? }),
        )?;
        let admin = format!("Authorization: Bearer {}\r\n", text(&admin, "access_token")?);
        let mut run = Self { name, tokens: Vec::new(), products: Vec::new(), pays };
        for number in 0..products.max(1) {
            let product = shop.expect(
                201,
                "/api/v1/products",
                &admin,
                &json!({
                    "name": format!("Load {} {number}", run.name), "description": "sold by the load generator",
                    "price": 19.99, "currency": "USD", "category": "load", "stock_quantity": STOCK_PER_PRODUCT,
                    "images": [], "specifications": {},
                }),
            )?;
            run.products.push(text(&product, "id")?);
        }
        for number in 0..buyers.max(1) {
            let buyer = shop.expect(
                201,
                "/api/v1/users/register",
                "",
                &json!({
                    "email": format!("load-{}-{number}@example.com", run.name), "password": "load-Password-123",
                    "first_name": "Load", "last_name": "Buyer", "phone": "+15550100",
                }),
            )?;
            run.tokens.push(text(&buyer, "access_token")?);
        }
        Ok(run)
    }

    /// Places orders until `measured` after `from`; counts those that began after `from`.
    fn buy(
        &self,
        address: &str,
        index: usize,
        from: Instant,
        measured: Duration,
    ) -> Result<(Histogram<u64>, BTreeMap<u16, u64>), Failure> {
        let mut shop = Connection::open(address)?;
        let token = &self.tokens[index % self.tokens.len()];
        let (mut placed, mut others) = (latencies()?, BTreeMap::new());
        for number in 0.. {
            let product = &self.products[(index + number) % self.products.len()];
            let headers =
                format!("Authorization: Bearer {token}\r\nIdempotency-Key: {}-{index}-{number}\r\n", self.name);
            let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] }).to_string();
            let began = Instant::now();
            let (mut status, answer) = shop.post("/api/v1/orders", &headers, &body)?;
            if self.pays && status == 201 {
                let body = payment(&serde_json::from_slice(&answer)?)?;
                (status, _) = shop.post("/api/v1/payments", &headers, &body)?;
            }
            let ended = Instant::now();
            if ended >= from + measured {
                break;
            }
            if status != 201 {
                *others.entry(status).or_default() += 1;
            } else if began >= from {
                let micros = u64::try_from((ended - began).as_micros())?;
                placed.record(micros.clamp(1, LATENCY_MICROS_MAX))?;
            }
        }
        Ok((placed, others))
    }
}

/// The whole of an order, with a good card; the amount exactly as the order states it, and all of ours have cents.
fn payment(order: &Value) -> Result<String, Failure> {
    let minor = order["total_minor"].as_i64().ok_or_else(|| format!("no total_minor in {order}"))?;
    Ok(format!(
        r#"{{"amount":{}.{:02},"currency":"USD","order_id":"{}","payment_method":{{"type":"card","card_number":"4242424242424242","expiry_month":12,"expiry_year":2040,"cvc":"123"}}}}"#,
        minor / 100,
        minor % 100,
        text(order, "order_id")?,
    ))
}

fn setting(name: &'static str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("set {name} to what the shop was started with").into())
}

fn text(answer: &Value, field: &str) -> Result<String, Failure> {
    Ok(answer[field].as_str().ok_or_else(|| format!("no {field} in {answer}"))?.to_owned())
}

/// A kept-alive HTTP/1.1 connection that costs the machine little: the shop shares its cores with it.
struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).map_err(|cause| format!("no shop at {address}: {cause}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(Self { host: address.to_owned(), stream: BufReader::new(stream) })
    }

    fn expect(&mut self, status: u16, path: &str, headers: &str, body: &Value) -> Result<Value, Failure> {
        match self.post(path, headers, &body.to_string())? {
            (answered, body) if answered == status => Ok(serde_json::from_slice(&body)?),
            (answered, body) => Err(format!("POST {path}: {answered} {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn post(&mut self, path: &str, headers: &str, body: &str) -> Result<(u16, Vec<u8>), Failure> {
        let Self { host, stream } = self;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {headers}\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let status = line(stream)?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status line")?;
        let mut length = None;
        loop {
            let header = line(stream)?;
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse::<usize>()?);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length.ok_or("this client reads answers with a Content-Length only")?];
        stream.read_exact(&mut body)?;
        Ok((status, body))
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shop closed the connection")),
        _ => Ok(line.trim_end().to_owned()),
    }
}
