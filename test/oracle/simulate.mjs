// Judges one request in each line of its input, which is JSON as TestOracle in
// internal/policy writes it, and answers with a line each: what the simulator
// says, or "error" and why it cannot say anything.

import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  const result = await runSimulation(
    {
      request: {
        principal: request.principal,
        action: request.action,
        resource: { resource: request.resource, accountId: request.owner },
        contextVariables: request.keys,
      },
      identityPolicies: request.identity.map((policy, i) => ({ name: `p${i}`, policy })),
      sessionPolicy: request.session,
      resourcePolicy: request.resourcePolicy,
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    { simulationMode: 'Strict' },
  )
  if (result.resultType === 'error') {
    console.log(`error ${JSON.stringify(result.errors)}`)
  } else if (result.result.ignoredContextKeys.length > 0) {
    console.log(`error a request for ${request.action} has no ${result.result.ignoredContextKeys}`)
  } else {
    console.log(result.overallResult)
  }
}
