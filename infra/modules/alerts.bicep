// Who is called, and when.

@description('Region of the workspace.')
param location string

@description('Start of every name.')
param namePrefix string

@description('Resource id of the workspace.')
param workspaceId string

@description('Mail addresses that are called.')
param emailAddresses array

@description('Action groups the trust has already; called as well.')
param existingActionGroupIds array

@description('Rules: key, title, description, severity, query, dimensions, fires (on `none` or `some` rows), minutes, and remindsDaily for one that mails again each day.')
param rules array

@description('Tags.')
param tags object

// Azure Monitor takes these windows only, in these words.
var windows = {
  '15': 'PT15M'
  '30': 'PT30M'
  '45': 'PT45M'
  '60': 'PT1H'
  '120': 'PT2H'
  '360': 'PT6H'
  '1440': 'P1D'
  '2880': 'P2D'
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emailAddresses)) {
  name: '${namePrefix}-people'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'DefExport'
    emailReceivers: [for address in emailAddresses: {
      name: address
      emailAddress: address
      useCommonAlertSchema: true
    }]
  }
}

resource queryRules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: '${namePrefix}-${rule.key}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: rule.title
    description: rule.description
    severity: rule.severity
    enabled: true
    // One that resolves itself mails when it begins and when it ends. One that
    // does not would mail at each look; muted for a day, it reminds. Azure takes
    // no muting of one that resolves itself.
    autoMitigate: !(rule.?remindsDaily ?? false)
    muteActionsDuration: (rule.?remindsDaily ?? false) ? 'P1D' : null
    evaluationFrequency: rule.minutes <= 60 ? 'PT5M' : 'PT15M'
    windowSize: windows[string(rule.minutes)]
    scopes: [workspaceId]
    // A table that has had no row yet must not fail the deployment.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: rule.query
          timeAggregation: 'Count'
          operator: rule.fires == 'none' ? 'LessThan' : 'GreaterThan'
          threshold: rule.fires == 'none' ? 1 : 0
          dimensions: [for column in rule.dimensions: {
            name: column
            operator: 'Include'
            values: ['*']
          }]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: concat(empty(emailAddresses) ? [] : [people.id], existingActionGroupIds)
    }
  }
}]
