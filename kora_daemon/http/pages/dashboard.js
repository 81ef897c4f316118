'use strict'
const KEPT = 450 // statuses, one every two seconds
const NARROWEST = 60 // a plot begins with two minutes and grows
const SHOWN_EVENTS = 100
const SVG = 'http://www.w3.org/2000/svg'
const byId = (id) => document.getElementById(id)

function make(name, text, className) {
  const node = document.createElement(name)
  if (text !== undefined) node.textContent = text
  if (className) node.className = className
  return node
}

// Numbers

const count = (number) => (number === null ? '?' : Math.round(number).toLocaleString('en'))
const rate = (number) => (number < 10 ? number.toFixed(1) : count(number))
function size(bytes) {
  if (bytes === null) return '?'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1 }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`
}
function seconds(value) {
  if (value === null) return '–'
  if (value >= 1) return `${value.toFixed(1)} s`
  return `${value < 0.01 ? (value * 1000).toFixed(1) : Math.round(value * 1000)} ms`
}
function duration(whole) {
  const parts = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]
  const said = []
  for (const [name, unit] of parts) {
    if (whole >= unit) { said.push(`${Math.floor(whole / unit)} ${name}`); whole %= unit }
  }
  return said.slice(0, 2).join(' ') || '0 s'
}

// The share of what came between two statuses that was at most so slow; buckets are cumulative.
function quantile(before, after, share) {
  const total = after.count - before.count
  if (total <= 0) return null
  let lower = 0
  let below = 0
  for (let place = 0; place < after.buckets.length; place += 1) {
    const [bound, reached] = after.buckets[place]
    const inside = reached - (before.buckets[place] ? before.buckets[place][1] : 0)
    if (inside >= share * total) {
      return inside === below ? bound : lower + (bound - lower) * (share * total - below) / (inside - below)
    }
    lower = bound
    below = inside
  }
  return lower
}

// Plots

class Plot {
  constructor(title, names, shown) {
    this.shown = shown
    this.names = names
    this.section = make('section', undefined, 'plot')
    const heading = make('h2', title)
    heading.id = `plot-${title.replace(/\W+/g, '-').toLowerCase()}`
    this.section.setAttribute('aria-labelledby', heading.id)
    this.svg = document.createElementNS(SVG, 'svg')
    this.svg.setAttribute('viewBox', '0 0 100 100')
    this.svg.setAttribute('preserveAspectRatio', 'none')
    this.svg.setAttribute('role', 'img')
    const axis = document.createElementNS(SVG, 'line')
    axis.setAttribute('class', 'axis')
    for (const [name, value] of [['x1', 0], ['x2', 100], ['y1', 99], ['y2', 99]]) axis.setAttribute(name, value)
    this.svg.append(axis)
    this.lines = names.map((_, place) => {
      const line = document.createElementNS(SVG, 'polyline')
      line.setAttribute('class', place ? 'two' : 'one')
      this.svg.append(line)
      return line
    })
    this.legend = make('p', undefined, 'legend')
    this.labels = names.map((_, place) => this.legend.appendChild(make('span', '', place ? 'two' : 'one')))
    this.most = this.legend.appendChild(make('span', '', 'quiet'))
    this.section.append(heading, this.svg, this.legend)
    byId('plots').append(this.section)
  }

  draw(series) {
    const values = series.flat().filter((value) => value !== null)
    const top = Math.max(...values, 0)
    const said = []
    series.forEach((points, place) => {
      const wide = Math.max(points.length, NARROWEST) - 1
      const x = (at) => (100 * (wide - points.length + 1 + at)) / wide
      const y = (value) => 99 - (top ? (value / top) * 95 : 0)
      const drawn = points.map((value, at) => (value === null ? '' : `${x(at).toFixed(2)},${y(value).toFixed(2)}`))
      this.lines[place].setAttribute('points', drawn.join(' '))
      const now = points.length ? points[points.length - 1] : null
      const text = `${this.names[place]}: ${now === null ? '–' : this.shown(now)}`
      this.labels[place].textContent = text
      said.push(text)
    })
    this.most.textContent = `top: ${this.shown(top)}`
    this.svg.setAttribute('aria-label', `${said.join(', ')}, at most ${this.shown(top)}`)
  }
}

const clients = new Plot('Clients', ['connected'], count)
const throughput = new Plot('Operations per second', ['stored', 'delivered'], rate)
const latency = new Plot('Write to acknowledgment', ['p50', 'p99'], seconds)
const delivery = new Plot('Write to delivery', ['p50', 'p99'], seconds)
const history = { clients: [], stored: [], delivered: [], ack50: [], ack99: [], deliver50: [], deliver99: [] }
function remember(name, value) {
  history[name].push(value)
  if (history[name].length > KEPT) history[name].shift()
  return value
}

// What comes

let paused = false
let before = null
let first = null

function state(text, kind) {
  const node = byId('state')
  if (node.textContent !== text) node.textContent = text
  node.className = `state ${kind}`
}

function take(status) {
  if (status.store.failure) state('the store does not take writes', 'bad')
  else if (status.draining) state('shutting down', 'warn')
  else state('all is well', 'good')
  if (before === null || status.uptime < before.uptime) { before = status; first = status }
  const passed = status.uptime - before.uptime
  const per = (name) => (passed > 0 ? (status.totals[name] - before.totals[name]) / passed : 0)
  const stored = remember('stored', per('uploadedOperations'))
  const delivered = remember('delivered', per('deliveredOperations'))
  remember('clients', status.sessions.total)
  const then = before.latency
  const now = status.latency
  remember('ack50', quantile(then.writeToAck, now.writeToAck, 0.5))
  const slow = remember('ack99', quantile(then.writeToAck, now.writeToAck, 0.99))
  remember('deliver50', quantile(then.writeToDeliver, now.writeToDeliver, 0.5))
  remember('deliver99', quantile(then.writeToDeliver, now.writeToDeliver, 0.99))
  before = status
  if (!paused) show(status, stored, delivered, slow)
}

function show(status, stored, delivered, slow) {
  const { process, store, log, sessions, totals } = status
  byId('about').textContent = `${status.version}, up ${duration(status.uptime)}`
  byId('clients').textContent = count(sessions.total)
  byId('uploads').textContent = rate(stored)
  byId('deliveries').textContent = rate(delivered)
  byId('ack').textContent = seconds(slow)
  byId('refused').textContent = count(Object.values(totals.rejections).reduce((sum, one) => sum + one, 0))
  byId('log').textContent = count(log.operations)
  byId('log-name').textContent = `operations in the log, ${log.lastHour === null ? '?' : `+${count(log.lastHour)}`} in an hour`
  byId('store').textContent = size(store.bytes)
  byId('store-name').textContent = `store (${store.kind})`
  byId('memory').textContent = size(process.rssBytes)
  clients.draw([history.clients])
  throughput.draw([history.stored, history.delivered])
  latency.draw([history.ack50, history.ack99])
  delivery.draw([history.deliver50, history.deliver99])
  rows('slowest', sessions.slowest.map((one) => [
    one.session, one.user || 'nobody', one.node, [count(one.lag)], [size(one.bufferedBytes)],
  ]), 'Nobody is behind')
  const codes = []
  for (const [what, name] of [['refused', 'rejections'], ['error', 'errors'], ['closed', 'closes']]) {
    for (const [code, number] of Object.entries(totals[name]).sort((a, b) => b[1] - a[1])) {
      codes.push([what, code, [count(number)], [count(number - (first.totals[name][code] || 0))]])
    }
  }
  rows('codes', codes, 'Nothing so far')
}

// Cells in a list are numbers.
function rows(id, wanted, nothing) {
  const body = byId(id)
  body.replaceChildren(...wanted.map((cells) => {
    const row = make('tr')
    for (const cell of cells) row.append(Array.isArray(cell) ? make('td', cell[0], 'number') : make('td', cell))
    return row
  }))
  if (!wanted.length) {
    const cell = make('td', nothing, 'quiet')
    cell.colSpan = 9
    body.append(make('tr'))
    body.lastChild.append(cell)
  }
}

function happened(event) {
  const { at, kind, number, ...about } = event
  const item = make('li')
  const time = make('time', new Date(at).toLocaleTimeString([], { hour12: false }))
  time.dateTime = new Date(at).toISOString()
  const what = make('span', `${kind} `)
  const words = Object.entries(about).filter(([, value]) => value !== null && value !== '')
  what.append(make('span', words.map(([name, value]) => `${name}=${value}`).join(' '), 'about'))
  item.append(time, what)
  const list = byId('events')
  list.prepend(item)
  while (list.childElementCount > SHOWN_EVENTS) list.lastChild.remove()
}

function listen() {
  const stream = new EventSource('/__kora/events')
  stream.addEventListener('status', (message) => take(JSON.parse(message.data)))
  stream.addEventListener('event', (message) => { if (!paused) happened(JSON.parse(message.data)) })
  stream.addEventListener('error', async () => {
    state('the daemon does not answer', 'bad')
    if (stream.readyState !== EventSource.CLOSED) return
    const answer = await fetch('/__kora/status').catch(() => null)
    if (answer && (answer.status === 401 || answer.status === 403)) location.reload()
    else setTimeout(listen, 2000)
  })
}

byId('pause').addEventListener('click', () => {
  paused = !paused
  byId('pause').setAttribute('aria-pressed', String(paused))
})
byId('sign-out').addEventListener('click', async () => {
  await fetch('/__kora/sign-out', { method: 'POST' })
  location.reload()
})
listen()
