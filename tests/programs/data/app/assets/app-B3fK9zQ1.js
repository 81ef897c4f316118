// A small device, written by hand: it shakes hands, shows what arrives, and inserts what is typed.
const nodeId = crypto.randomUUID()
const status = document.querySelector('[role=status]')
const list = document.querySelector('ul')
let count = 0

const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/`)
const say = (message) => socket.send(JSON.stringify({ messageId: crypto.randomUUID(), ...message }))

function show({ recordId, data }) {
  const line = document.createElement('li')
  line.dataset.id = recordId
  line.textContent = data.title
  list.append(line)
}

function take(batch) {
  batch.operations.forEach(show)
  say({
    type: 'acknowledgment',
    acknowledgedMessageId: batch.messageId,
    lastSequenceNumber: batch.operations.at(-1)?.sequenceNumber ?? 0,
    deliverySequence: batch.maxDeliverySequence,
  })
}

function insert(title) {
  count += 1
  const operation = {
    id: `${nodeId}/${count}`,
    nodeId,
    type: 'insert',
    collection: 'todos',
    recordId: crypto.randomUUID(),
    data: { title },
    previousData: null,
    timestamp: { wallTime: Date.now(), logical: count, nodeId },
    sequenceNumber: count,
    causalDeps: [],
    schemaVersion: 1,
  }
  show(operation)
  say({ type: 'operation-batch', operations: [operation], isFinal: true, batchIndex: 0 })
}

socket.addEventListener('open', () =>
  say({ type: 'handshake', nodeId, versionVector: {}, schemaVersion: 1, lastDeliverySequence: 0 }),
)
socket.addEventListener('close', ({ code }) => (status.textContent = `closed ${code}`))
socket.addEventListener('message', ({ data }) => {
  const message = JSON.parse(data)
  if (message.type === 'handshake-response') status.textContent = message.accepted ? 'connected' : 'refused'
  if (message.type === 'operation-batch') take(message)
  if (message.type === 'acknowledgment') status.textContent = `stored ${count}`
})
document.querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault()
  const { title } = event.target.elements
  insert(title.value)
  title.value = ''
})
