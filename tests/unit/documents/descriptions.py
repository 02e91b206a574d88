"""Descriptions that tests read: small, and like real ones."""

from __future__ import annotations

from idemproxy.documents.description import Description
from idemproxy.documents.reading import parse


def described(text: str) -> Description:
    return Description(parse(text.encode(), "api.yaml"))


PAYMENTS = """\
openapi: 3.0.3
info: {title: Payments, version: "2026-03-01"}
servers:
  - url: https://{env}.example.com/v1
    variables: {env: {default: api, enum: [api, sandbox]}}
security: [{bearer: []}]
paths:
  /charges:
    parameters: [{$ref: "#/components/parameters/Key"}]
    get:
      operationId: listCharges
      responses: {"200": {description: Charges}}
    post:
      operationId: createCharge
      summary: Create a charge
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Charge"}}}}
      responses:
        "201": {description: The charge}
        "409": {$ref: "#/components/responses/Conflict"}   # its own conflict
        default:
          description: Error
          content:
            application/json:
              schema: {type: object}
  /charges/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    patch:
      operationId: updateCharge
      responses: {"200": {description: The charge}}
  /charges/search:
    post:
      operationId: searchCharges
      security: []
      responses:
        # found
        "200": {description: Charges}
  /webhooks:
    post:
      parameters:
        - {name: X-Trace, in: header, schema: {type: string}}
      security: [{key: []}, {session: []}]
      responses: {"204": {description: Taken}}
components:
  parameters:
    Key:
      name: Idempotency-Key
      in: header
      required: true
      schema: {type: string, format: uuid}
  responses:
    Conflict: {description: A conflict, content: {application/json: {schema: {type: object}}}}
  schemas:
    Charge:
      type: object
      properties:
        amount: {type: integer, example: 012}
        parts: {type: array, items: {$ref: "#/components/schemas/Charge"}}
  securitySchemes:
    bearer: {type: http, scheme: bearer}
    key: {type: apiKey, in: header, name: X-API-Key}
    session: {type: apiKey, in: cookie, name: sid}
"""
